"""Made from the table of commands: completion scripts, the man page, docs/cli.md.

``python -m modelkeep.reference`` in the project's folder writes them; a test says whether they are
current. Not used at run time.
"""
