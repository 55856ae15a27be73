"""Snapshots: the catalog as one compressed, signed, versioned file, written and read.

A snapshot holds what the hubs told: documents, dated facts, former names, odd documents. It never
holds what is the user's own: library, jobs, tokens, settings. The format is docs/snapshots.md.
"""
