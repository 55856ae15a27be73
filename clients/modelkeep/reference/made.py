"""Which files are made, by their place in the project."""

from modelkeep.reference import man, markdown, shells


def files() -> dict[str, str]:
    """Path and content of each."""
    return {
        "clients/modelkeep/completion/modelkeep.bash": shells.bash(),
        "clients/modelkeep/completion/_modelkeep": shells.zsh(),
        "clients/modelkeep/completion/modelkeep.fish": shells.fish(),
        "clients/modelkeep/man/modelkeep.1": man.page(),
        "docs/cli.md": markdown.page(),
    }
