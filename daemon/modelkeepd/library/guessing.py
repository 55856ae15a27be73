"""Guesses for files that state no type, and what users confirm: asked by path.

Reads the file's header in a thread; the rules and what is learnt are kinds'. A guess is never
written anywhere: it is made anew each time, so that it follows the rules and what was learnt since.
"""

from dataclasses import replace
from functools import partial

import apsw
import trio

from modelkeep_protocol.errors import INVALID, NOT_FOUND, ModelkeepError
from modelkeepd.kinds.confirmed import confirm, load
from modelkeepd.kinds.facts import FileFacts
from modelkeepd.kinds.infer import Inference, infer
from modelkeepd.kinds.learning import Learned, confirmation, with_decision
from modelkeepd.library.headers import Looked, absolute_text, look_inside
from modelkeepd.library.records import content_at
from modelkeepd.store import Durability, Store


def guess_file(facts: FileFacts, fingerprint: bytes, learned: Learned) -> Inference:
    """What a file may be, with what was learnt from others. Pure."""
    decision = learned.decided(facts.sha256, fingerprint)
    return with_decision(infer(facts, learned.clues(facts)), decision)


class FileGuesses:
    """Answers what files may be."""

    def __init__(self, store: Store) -> None:
        self._store = store
        # headers of many megabytes are read: few at once
        self._limiter = trio.CapacityLimiter(2)

    async def guess(self, path: str) -> Inference:
        """What the file at a path may be. Raises ModelkeepError when it can't be read."""
        _, looked = await self._look(path)
        return await self._guess(looked)

    async def confirm(self, path: str, *, type: str = "", base: str = "") -> Inference:
        """Keep what a user says of a file, and guess again. Empty texts say nothing."""
        if not type.strip() and not base.strip():
            raise ModelkeepError(
                INVALID, "nothing is confirmed", "say the type, the base model, or both"
            )
        place, looked = await self._look(path)
        said = confirmation(looked.facts, looked.fingerprint, type.strip(), base.strip())
        await self._store.apply(
            partial(confirm, said=said, path=place),
            durability=Durability.FULL,
            name="kinds.confirm",
        )
        return await self._guess(looked)

    async def _look(self, path: str) -> tuple[str, Looked]:
        place, looked = await trio.to_thread.run_sync(_look, path, limiter=self._limiter)
        sha256 = await self._store.read(partial(content_at, path=place))
        return place, replace(looked, facts=replace(looked.facts, sha256=sha256))

    async def _guess(self, looked: Looked) -> Inference:
        learned = await self._store.read(_learned)
        return await trio.to_thread.run_sync(
            guess_file, looked.facts, looked.fingerprint, learned, limiter=self._limiter
        )


def _learned(db: apsw.Connection) -> Learned:
    return load(db)


def _look(path: str) -> tuple[str, Looked]:
    if not path.startswith("/"):
        raise ModelkeepError(
            INVALID, f"{path!r} is not an absolute path", "name the file by its whole path"
        )
    try:
        place = absolute_text(path)
        return place, look_inside(place)
    except FileNotFoundError as exc:
        raise ModelkeepError(NOT_FOUND, f"there is no file {path}", "check the path") from exc
    except (OSError, ValueError) as exc:
        raise ModelkeepError(
            INVALID, f"{path} can't be read: {exc}", "name a model file that you may read"
        ) from exc
