"""The RPC: one task owns the ROUTER socket, sessions decide, handlers answer."""
