"""The commands there are: name, module, group and one line each. Loads none of them."""

from __future__ import annotations

TYPE_CHECKING = False  # see modelkeep_protocol.errors
if TYPE_CHECKING:
    from modelkeep.cli.spec import Command

# name -> (module, group, summary)
COMMANDS: dict[str, tuple[str, str, str]] = {
    "search": ("search", "catalog", "find models in the offline catalog"),
    "show": ("show", "catalog", "everything known of one model"),
    "history": ("history", "catalog", "how a model changed"),
    "sync": ("sync", "catalog", "start or show a sync with the hubs"),
    "catalog": ("catalog", "catalog", "write or read the catalog as one file"),
    "api-changes": ("api_changes", "catalog", "how the hubs' APIs changed"),
    "types": ("types", "catalog", "known types and base models; guesses for files"),
    "get": ("get", "downloads", "download models into the library"),
    "queue": ("queue", "downloads", "see and steer the downloads"),
    "library": ("library", "files", "the model files on disk and the watched folders"),
    "status": ("status", "daemon", "daemon, catalog, queue and library at a glance"),
    "events": ("events", "daemon", "follow what happens"),
    "stop": ("stop", "daemon", "stop the daemon"),
    "help": ("help", "help", "help on a command or a topic"),
    "completion": ("completion", "help", "the completion script of a shell"),
    "version": ("version", "help", "versions of client, protocol and daemon"),
    "__complete": ("completion", "", "values for completion scripts"),
}

GROUPS = {
    "catalog": "Find",
    "downloads": "Download",
    "files": "Library",
    "daemon": "Daemon",
    "help": "Help",
}

# a command with verbs -> the verb that is meant when none is named
DEFAULT_VERBS = {
    "queue": "list",
    "library": "list",
    "api-changes": "list",
    "types": "list",
    "catalog": "export",
}


def load(name: str) -> dict[str, Command]:
    """The verbs of a command; a command without verbs has the one named ''."""
    module = __import__(f"modelkeep.cli.{COMMANDS[name][0]}", fromlist=("VERBS",))
    verbs: dict[str, dict[str, Command]] = module.VERBS
    return verbs[name]
