"""Whole slides: read one, find its tissue, scan it with a bundle, and keep the map.

``reader`` opens any slide at any resolution, ``tissue`` says where there is something to look at, ``scan``
turns one slide into a ``probability_map``, and ``batch`` does so for a folder overnight.
"""
