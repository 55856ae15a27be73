"""What users bring along from an older program: its models.json.

Owns the reading of that file, what its entries mean here, the tables ``legacy_*``, and that all of
it happens once. The file itself is only ever renamed, and only after its content is in the store.
"""
