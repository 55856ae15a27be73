"""Numbered migrations: each a folder of SQL files, applied in one transaction with its number.

A shipped migration never changes. ``user_version`` holds the number of the last one applied.
"""

from dataclasses import dataclass
from importlib.resources import files


@dataclass(frozen=True, slots=True)
class Migration:
    """One step of the schema: its number and the SQL that makes it."""

    number: int
    sql: str


def shipped_migrations() -> tuple[Migration, ...]:
    """All migrations in this package, in order. A folder's files are joined in name order."""
    found = []
    for folder in files(__package__).iterdir():
        if folder.is_dir() and folder.name.isdecimal():
            parts = sorted((f for f in folder.iterdir() if f.name.endswith(".sql")), key=_name)
            sql = "\n".join(part.read_text(encoding="utf-8") for part in parts)
            found.append(Migration(int(folder.name), sql))
    return tuple(sorted(found, key=lambda migration: migration.number))


def _name(entry: object) -> str:
    return str(getattr(entry, "name", ""))
