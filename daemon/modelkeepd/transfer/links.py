"""Linked type folders: where a file goes when ``models/loras`` is a link to another disk.

Owns the one moment at which a link is followed: when a download is planned. What is planned is the
real place, below a library root, without links; every later step walks to it and follows none. A
link that leads anywhere else is refused: whoever can plant one in a models folder must not choose
where we write.
"""

import os
import stat
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from modelkeepd.transfer.errors import DestinationOffline, DestinationRefused, disk_error

_MAX_LINKS = 8


def real_place(
    root: Path, folder: PurePosixPath, roots: Iterable[Path]
) -> tuple[Path, PurePosixPath]:
    """Root and folder of the same place without links in it; ``roots`` are where links may lead.

    Blocks. The roots' own paths are without links. Folders that are not there yet are no links.
    """
    allowed = [root, *roots]
    for _ in range(_MAX_LINKS):
        at = _first_link(root, folder)
        if at is None:
            return root, folder
        link = root / at
        target = Path(os.path.realpath(link))
        homes = [each for each in allowed if target.is_relative_to(each)]
        if not homes:
            raise DestinationRefused(
                f"{link} is a link to {target}, which lies in no library root",
                f"add the target as a library root: modelkeep library add {target}",
            )
        if not target.is_dir():
            raise DestinationOffline(
                f"{link} is a link to {target}, which is not there", "is its volume mounted?"
            )
        root = max(homes, key=lambda each: len(each.parts))
        folder = PurePosixPath(target.relative_to(root)) / folder.relative_to(at)
    raise DestinationRefused(
        f"{root / folder} leads through more than {_MAX_LINKS} links", "name the real folder"
    )


def _first_link(root: Path, folder: PurePosixPath) -> PurePosixPath | None:
    at = PurePosixPath()
    for component in folder.parts:
        at = at / component
        try:
            found = os.lstat(root / at)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise disk_error(error) from error
        if stat.S_ISLNK(found.st_mode):
            return at
        if not stat.S_ISDIR(found.st_mode):
            return None
    return None
