"""Stands before Jupyter's package of this name on the path of Ray's processes.

That package compiles a grammar for two seconds of processor time, in each process that imports it. Ray imports it
through jsonschema, which does without it. A node of Ray gives up if its processes have not started after 15 s.
"""

raise ImportError
