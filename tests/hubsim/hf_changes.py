"""Changes of the Hugging Face catalog by command: the words of `POST /_sim/change`."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from tests.hubsim.hf_catalog import Edit, RepoCatalog
from tests.hubsim.hf_population import Repo

# The argument of a word for one repository, when it was given as {id: argument}.
Change = Callable[[RepoCatalog, str, object], None]


class RepoChanges:
    def __init__(self, catalog: RepoCatalog) -> None:
        self._catalog = catalog

    def change(self, wanted: Mapping[str, object]) -> dict[str, list[str]]:
        """Change the catalog; README.md lists the words. Answers which `_id`s each word touched.

        Words of existing repositories take a list of `_id`s or names, {one of them: argument}, or
        a number: so many ordinary ones are picked by the seed.
        """
        unknown = set(wanted) - {"add", "reuse_name", *_CHANGES}
        if unknown:
            raise ValueError(f"unknown change: {', '.join(sorted(unknown))}")
        return {word: self._change(word, what) for word, what in wanted.items()}

    def _change(self, word: str, what: object) -> list[str]:
        if word == "add":
            return [_add(self._catalog) for _ in range(int(str(what)))]
        arguments: Mapping[str, object] = {}
        if isinstance(what, Mapping):
            arguments = {self._key(str(name)): value for name, value in what.items()}
            chosen = list(arguments)
        elif isinstance(what, list | tuple | set | frozenset):
            chosen = [self._key(str(name)) for name in what]
        else:
            chosen = self._picked(word, int(str(what)))
        if word == "reuse_name":
            return [_reuse_name(self._catalog, key) for key in chosen]
        for key in chosen:
            _CHANGES[word](self._catalog, key, arguments.get(key))
        return chosen

    def _key(self, name: str) -> str:
        if self._catalog.source(name) is not None:
            return name
        found = self._catalog.find(name)
        if found is None:
            raise ValueError(f"no such repository: {name}")
        return found.key

    def _picked(self, word: str, wanted: int) -> list[str]:
        """Ordinary repositories: a test counts on the special ones being as they were."""
        catalog = self._catalog
        if word in ("restore", "reuse_name"):
            gone = [key for key, overlay in catalog.overlays.items() if overlay.gone]
            return gone[:wanted]
        population = catalog.synthetic.population
        chosen: list[str] = []
        for _attempt in range(100 * wanted + 1000):
            if len(chosen) == wanted or population.first_ordinary >= population.count:
                break
            key = population.key(
                catalog.random.randrange(population.first_ordinary, population.count)
            )
            repo = catalog.repo(key)
            if repo is not None and _is_plain(repo, word) and key not in chosen:
                chosen.append(key)
        return chosen


def _is_plain(repo: Repo, word: str) -> bool:
    odd = repo.gone or repo.disabled or repo.gated
    return not odd and (word != "replace_file" or repo.kind != "bare")


# --- the words ------------------------------------------------------------------------------------


def _add(catalog: RepoCatalog) -> str:
    key = catalog.synthetic.add(catalog.tick() // 1000)
    catalog.place_new(key)
    return key


def _edit(catalog: RepoCatalog, key: str, argument: object) -> None:
    title = "Update README.md" if argument is None else str(argument)
    catalog.overlay(key).edits.append(Edit(catalog.tick(), title))


def _new_file(catalog: RepoCatalog, key: str, argument: object) -> None:
    overlay = catalog.overlay(key)
    path = argument or f"extra-{len(overlay.edits) + 1}.safetensors"
    overlay.edits.append(Edit(catalog.tick(), f"Upload {path}", str(path)))


def _replace_file(catalog: RepoCatalog, key: str, argument: object) -> None:
    """New bytes under an old path: the first large file, unless a path is named."""
    repo = catalog.repo(key)
    assert repo is not None
    large = [file.path for file in catalog.files(repo) if file.content is not None]
    path = argument or (large[0] if large else "model.safetensors")
    edit = Edit(catalog.tick(), f"Upload {path}", str(path))
    catalog.overlay(key).edits.append(edit)


def _counters(catalog: RepoCatalog, key: str, argument: object) -> None:
    """Downloads and likes move; nothing else shows it."""
    repo = catalog.repo(key)
    assert repo is not None
    wanted = argument if isinstance(argument, Mapping) else {}
    overlay = catalog.overlay(key)
    more = catalog.random.randrange(1, 500)
    overlay.downloads = int(wanted.get("downloads", repo.downloads + more))
    overlay.likes = int(wanted.get("likes", repo.likes + 1 + more // 100))


def _rename(catalog: RepoCatalog, key: str, argument: object) -> None:
    repo = catalog.repo(key)
    assert repo is not None
    author, _, name = repo.name.rpartition("/")
    catalog.give_name(key, str(argument) if argument else f"{author or 'moved'}/{name}-renamed")


def _gone(state: str) -> Change:
    def change(catalog: RepoCatalog, key: str, argument: object) -> None:
        catalog.overlay(key).gone = state

    return change


def _restore(catalog: RepoCatalog, key: str, argument: object) -> None:
    repo = catalog.repo(key)
    assert repo is not None
    if catalog.is_taken(repo.name, but=key):
        raise ValueError(f"{repo.name} belongs to another repository now")
    catalog.give_name(key, repo.name, leave_alias=False)
    overlay = catalog.overlay(key)
    overlay.gone, overlay.public = None, True


def _gate(catalog: RepoCatalog, key: str, argument: object) -> None:
    catalog.overlay(key).gated = "auto" if argument is None else str(argument)


def _ungate(catalog: RepoCatalog, key: str, argument: object) -> None:
    catalog.overlay(key).gated = False


def _disable(disabled: bool) -> Change:
    def change(catalog: RepoCatalog, key: str, argument: object) -> None:
        catalog.overlay(key).disabled = disabled

    return change


def _set(catalog: RepoCatalog, key: str, argument: object) -> None:
    if not isinstance(argument, Mapping):
        raise ValueError("set takes {id: {field: value}}")
    catalog.overlay(key).fields.update(argument)


def _reuse_name(catalog: RepoCatalog, key: str) -> str:
    """A new repository takes the name of one that is gone."""
    repo = catalog.repo(key)
    if repo is None or not repo.gone:
        raise ValueError(f"{key} is still there and keeps its name")
    new = _add(catalog)
    catalog.give_name(new, repo.name, leave_alias=False)
    return new


_CHANGES: dict[str, Change] = {
    "edit": _edit,
    "new_file": _new_file,
    "replace_file": _replace_file,
    "counters": _counters,
    "rename": _rename,
    "remove": _gone("removed"),
    "make_private": _gone("private"),
    "restore": _restore,
    "gate": _gate,
    "ungate": _ungate,
    "disable": _disable(True),
    "enable": _disable(False),
    "set": _set,
}
