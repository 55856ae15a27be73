"""Notices when a hub's API changes, and says what that means for the catalog.

Owns the learnt shapes of answers, the changes found between them, and the decision to pause an
endpoint. Makes no request itself and writes nothing into the catalog: a pause keeps what is there.
"""
