"""Sync: brings a hub's catalog into the store and keeps it there, politely.

Owns the crawl's plan, its units of work and its service. How a hub is spoken to is ``hubs``'; what
is searched and shown is ``catalog``'s, which follows ``changed_seq``.
"""
