"""modelkeep: the command line and the client library of the modelkeep daemon.

``modelkeep.client`` is the blocking library, ``modelkeep.aio`` the one for trio. Importing this
package imports nothing else: the everyday command line lives on that.
"""

__version__ = "0.1.0"
