"""Where a model's file belongs below a root, for each program's arrangement of folders. Pure.

The folders and the words are the table of kinds'; here they become paths. A word that the table
does not have goes where the layout puts others, so that a new type on the hub never stops a
download.
"""

from collections.abc import Iterable
from pathlib import PurePosixPath

from modelkeepd.kinds import table

canonical_layout = table.canonical_layout


def folder_for(
    layout: str, model_type: str, file_kind: str, base_model: str | None = None
) -> PurePosixPath:
    """The folder, relative to the root, for a file of this kind of a model of this type.

    An unknown layout is treated as `flat`, where everything lies in the root itself. `base_model`
    is for layouts that sort by it; none of these do.
    """
    return PurePosixPath(table.folder(layout, model_type, file_kind))


def detect_layout(names: Iterable[str]) -> str:
    """The layout of a folder from the names directly inside it; `flat` when nothing tells."""
    found = {name.lower() for name in names}
    # ComfyUI's "loras" and A1111's "Lora" differ, so a count decides; a tie is no evidence.
    scores = {
        layout.name: len(found.intersection(layout.marks))
        for layout in table.table().layouts.values()
    }
    best = max(scores.values())
    leaders = [layout for layout, score in scores.items() if score == best]
    return leaders[0] if best and len(leaders) == 1 else "flat"
