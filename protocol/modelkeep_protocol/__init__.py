"""What daemon and clients agree on: methods, messages, errors, events, limits, paths.

``errors``, ``methods``, ``codec``, ``envelope`` and ``paths`` import next to nothing, because the
everyday command line lives on them; ``schema`` (msgspec) is for the daemon and the client library.
"""

PROTOCOL_MAJOR = 1
PROTOCOL_MINOR = 0
