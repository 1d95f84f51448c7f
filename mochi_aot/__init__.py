"""Mochi 1, compiled ahead of time into a bundle that a mesh of devices can start in seconds.

The packages below this one are the folders at the top of the repository, by links.
"""

__version__ = "0.1.0"
