"""The table of commands as one flat list, for everything that is written from it."""

from modelkeep.cli import commands
from modelkeep.cli.spec import FLAG, FOLDER, GLOBAL_OPTIONS, Argument, Command, Option


def public_names() -> list[str]:
    """Commands a person types."""
    return [name for name, (_, group, _) in commands.COMMANDS.items() if group]


def verbs_of(name: str) -> list[str]:
    """The verbs of a command; empty for one without."""
    return [verb for verb in commands.load(name) if verb]


def all_commands() -> list[Command]:
    """Every command and verb, in the order of the help."""
    return [command for name in public_names() for command in commands.load(name).values()]


def default_command(name: str) -> Command:
    """What a command means when no verb is named."""
    return commands.load(name)[commands.DEFAULT_VERBS.get(name, "")]


def value_kind(thing: Option | Argument) -> str:
    """How a value is completed: '' not at all, ``folder``, ``=a b c``, or a live kind."""
    if thing.choices:
        return "=" + " ".join(thing.choices)
    if thing.complete == "topics":
        return "=" + " ".join([*public_names(), *_topics()])
    if thing.complete:
        return thing.complete
    return "folder" if thing.kind == FOLDER else ""


def argument_kind(command: Command) -> str:
    """How the words of a command are completed."""
    return value_kind(command.arguments[0]) if command.arguments else ""


def valued_options(command: Command | None) -> list[Option]:
    """Options that take a value, the global ones included."""
    own = () if command is None else command.options
    return [option for option in (*own, *GLOBAL_OPTIONS) if option.kind != FLAG]


def _topics() -> list[str]:
    from modelkeep.cli.topics import TOPICS

    return list(TOPICS)
