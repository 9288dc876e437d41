"""Whole slides: read one, scan it with a bundle, and make results of its map.

``reading`` opens slides and annotations, ``scanning`` finds the tissue and fills a probability map, ``results``
makes lesions, pictures and files of it; ``batch`` does all of that for a folder, and ``extract`` cuts training
patches out of annotated slides.
"""
