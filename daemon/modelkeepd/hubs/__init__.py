"""Hubs: what a model hub is to modelkeep, and the clients that speak to each one.

Owns the hub contract, HTTP to the hubs' APIs, retries and rate limits, the parsers of their
documents and how those are kept compressed. Holds no tables but asks none either: what a document
means is decided here, where it is stored is decided by the domains above.
"""
