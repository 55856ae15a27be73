"""Every setting: its type, unit, default and meaning; and how they are read and refused.

Defaults < ``config.toml`` < environment < flags. Nothing here has an effect by itself.
"""

from modelkeepd.settings.keys import ENVIRONMENT_PREFIX, Key, keys, table_keys
from modelkeepd.settings.reading import NOT_SETTINGS, BadSettings, load_settings
from modelkeepd.settings.tree import (
    Events,
    Hubs,
    HubSettings,
    HuggingFaceSettings,
    Layout,
    Library,
    LibraryRoot,
    Log,
    Settings,
    Sync,
    Transfer,
)

__all__ = [
    "ENVIRONMENT_PREFIX",
    "NOT_SETTINGS",
    "BadSettings",
    "Events",
    "HubSettings",
    "Hubs",
    "HuggingFaceSettings",
    "Key",
    "Layout",
    "Library",
    "LibraryRoot",
    "Log",
    "Settings",
    "Sync",
    "Transfer",
    "keys",
    "load_settings",
    "table_keys",
]
