"""The methods about kinds: the list of them, guesses for files, and what a user confirms."""

from functools import partial

from modelkeep_protocol import errors, methods, schema
from modelkeep_protocol.errors import ModelkeepError
from modelkeepd.kinds.infer import Inference
from modelkeepd.kinds.listing import listed_kinds
from modelkeepd.library.guessing import FileGuesses
from modelkeepd.rpc.server import Handler
from modelkeepd.store import Store


class KindMethods:
    """Answers ``kinds.*``."""

    def __init__(self, store: Store, guesses: FileGuesses) -> None:
        self._store = store
        self._guesses = guesses

    def table(self) -> dict[str, Handler]:
        """Method name to function."""
        return {
            methods.KINDS_LIST: self.list,
            methods.KINDS_GUESS: self.guess,
            methods.KINDS_CONFIRM: self.confirm,
        }

    async def list(self, params: schema.ListKinds) -> schema.Kinds:
        """Known and seen types and base models."""
        if params.kind not in ("", "type", "base"):
            raise ModelkeepError(
                errors.INVALID, f"there is no kind {params.kind!r}", "type, base, or neither"
            )
        found = await self._store.read(partial(listed_kinds, kind=params.kind, text=params.text))
        return schema.Kinds(
            [
                schema.Kind(
                    kind=each.kind,
                    name=each.name,
                    synonyms=[*each.synonyms],
                    about=each.about,
                    folder=each.folder,
                    is_known=each.is_known,
                    first_seen_ms=each.first_seen_ms,
                )
                for each in found
            ]
        )

    async def guess(self, params: schema.PickFile) -> schema.KindGuesses:
        """What a file may be."""
        return _answer(params.path, await self._guesses.guess(params.path))

    async def confirm(self, params: schema.ConfirmKind) -> schema.KindGuesses:
        """What a file really is."""
        found = await self._guesses.confirm(params.path, type=params.type, base=params.base)
        return _answer(params.path, found)


def _answer(path: str, found: Inference) -> schema.KindGuesses:
    types = [
        schema.KindGuess("type", guess.type, guess.confidence, [*guess.reasons])
        for guess in found.types
    ]
    bases = [
        schema.KindGuess("base", guess.base, guess.confidence, [*guess.reasons])
        for guess in found.bases
    ]
    return schema.KindGuesses(path, types + bases)
