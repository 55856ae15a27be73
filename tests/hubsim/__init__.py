"""The simulated hub: real HTTP on loopback, the real hubs' oddities, faults as data.

Imports nothing of the product. `open_hubsim` for tests in process, `python -m tests.hubsim` for
everything else; README.md has the rest.
"""

from tests.hubsim.app import Hub, open_hubsim
from tests.hubsim.options import HubOptions

__all__ = ["Hub", "HubOptions", "open_hubsim"]
