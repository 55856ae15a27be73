"""Knows every model file in the watched folders: where it is, what it is, whether it is still
there.

Identity is content: a file keeps its row, its hash and what the catalog says of it through
renames and moves. The watcher is a hint, the walk is the truth. The package never writes into a
watched folder and never asks a hub.
"""
