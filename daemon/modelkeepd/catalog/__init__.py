"""The catalog domain: query language, text analysis, search index, showing models.

Reads what sync keeps in the store and what the library says is owned; writes only its own index.
"""
