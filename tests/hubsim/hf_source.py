"""The synthetic repositories as a source of the catalog."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from tests.hubsim.bytes import Contents
from tests.hubsim.hf_files import Blobs, RepoFile, SyntheticRepoFiles
from tests.hubsim.hf_population import Population, Repo
from tests.hubsim.hf_repos import RepoMaker, architecture, card_data, index_in, pipeline_class
from tests.hubsim.hf_strands import SyntheticStrand
from tests.hubsim.population import Json, mix


class _Missing:
    """What a document does not have; None is a value."""


MISSING: Final = _Missing()


class SyntheticRepos:
    verbatim = False

    def __init__(
        self, count: int, seed: int, contents: Contents, large_files: Sequence[int] = ()
    ) -> None:
        # index -> size: the newest repositories hold one large file each.
        self._large = {count - 1 - place: size for place, size in enumerate(large_files)}
        self.population = Population(seed, count, frozenset(self._large))
        self.maker = RepoMaker(self.population)
        self.strand = SyntheticStrand(self.population)
        self._blobs = Blobs(contents)
        self._files = SyntheticRepoFiles(self.population, contents)
        self._added: dict[int, int] = {}  # index -> when it was born
        self._last: tuple[str, Repo] | None = None  # lists ask for a row, then for its values

    def add(self, born_s: int) -> str:
        index = self.population.count + len(self._added)
        self._added[index] = born_s
        return self.population.key_at(born_s, index)

    def _key(self, index: int) -> str | None:
        if 0 <= index < self.population.count:
            return self.population.key(index)
        born_s = self._added.get(index)
        return None if born_s is None else self.population.key_at(born_s, index)

    # -- the source contract -----------------------------------------------------------------------

    def has(self, key: str) -> bool:
        if self._last is not None and self._last[0] == key:
            return True
        index = self.population.index_of(key)
        return index is not None and self._key(index) == key

    def ids(self) -> Iterator[str]:
        for index in range(self.population.count):
            yield self.population.key(index)
        for index, born_s in self._added.items():
            yield self.population.key_at(born_s, index)

    def added(self) -> list[str]:
        return [self.population.key_at(born_s, index) for index, born_s in self._added.items()]

    def large_ids(self) -> list[str]:
        return [self.population.key(index) for index in self._large]

    def repo(self, key: str) -> Repo:
        """As it was at its start. Shared with the next caller: copy before changing."""
        if self._last is not None and self._last[0] == key:
            return self._last[1]
        index = self.population.index_of(key)
        assert index is not None
        repo = self.maker.repo(index, self._added.get(index))
        self._last = (key, repo)
        return repo

    def find(self, name: str) -> str | None:
        """The repository that has (or had, before the hub started) this name in lower case."""
        index = index_in(name)
        key = None if index is None else self._key(index)
        if key is None:
            return None
        repo = self.repo(key)
        if repo.name.lower() == name:
            return key
        return key if (self.maker.old_name(repo) or "").lower() == name else None

    def kind_at(self, key: str) -> str:
        """The kind of repository, without making it."""
        index = self.population.index_of(key)
        assert index is not None
        return self.population.kind(index, self.population.special(index))

    def sha(self, key: str, number: int) -> str:
        return self.population.sha(key, number)

    def files(self, key: str, number: int) -> list[RepoFile]:
        repo = self.repo(key)
        if repo.index in self._large:
            size_bytes = self._large[repo.index]
            large = Contents.large_key(size_bytes, repo.index)
            return [RepoFile(f"large_{size_bytes}.safetensors", large)]
        return self._files.of(repo, number)

    def has_pull_request(self, key: str) -> bool:
        return self.repo(key).special == "pull_request" or mix(int(key[18:], 16)) & 15 == 0

    def is_tagged(self, key: str) -> bool:
        return self.repo(key).special == "tagged" or mix(int(key[18:], 16)) >> 8 & 15 == 0

    # -- what a document has beyond the columns of its row -----------------------------------------

    def value(self, key: str, field: str) -> object:
        repo = self.repo(key)
        match field:
            case "cardData":
                card = card_data(repo) if repo.special != "no_card" else None
                return MISSING if card is None else card
            case "config":
                return _config(repo)
            case "safetensors":
                return self._safetensors(repo)
            case "gguf" if repo.kind == "gguf":
                first = self._weights(repo)[0]
                total = self._blobs.size_bytes(first) // 2
                return {"total": total, "architecture": "llama", "context_length": 8192}
            case "transformersInfo" if repo.kind in ("transformers", "pickle"):
                return {"auto_model": "AutoModel", "pipeline_tag": repo.pipeline_tag}
            case "mask_token" if repo.kind == "pickle":
                return "[MASK]"
            case "model-index":
                return None
            case "spaces":
                return [] if repo.likes < 5 else [f"{repo.author}/demo-{repo.index}"]
            case "downloadsAllTime":
                return repo.downloads * 14
            case "inference" if repo.downloads > 20_000:
                return "warm"
            case "inferenceProviderMapping":
                return []
        return MISSING

    def own_keys(self, key: str) -> list[str]:
        return []

    def _weights(self, repo: Repo) -> list[RepoFile]:
        files = self.files(repo.key, repo.commits - 1)
        return [file for file in files if file.content is not None]

    def _safetensors(self, repo: Repo) -> object:
        """Counted for language models; the hub leaves it out for pipelines."""
        if repo.kind not in ("transformers", "peft") or repo.special == "no_safetensors_block":
            return MISSING
        total = sum(self._blobs.size_bytes(file) for file in self._weights(repo)) // 2
        if repo.index % 9 == 0:
            return {"parameters": {"I64": 512, "F16": total}, "total": total + 512}
        return {"parameters": {"F16": total}, "total": total}


def _config(repo: Repo) -> object:
    match repo.kind:
        case "diffusers":
            return {"diffusers": {"_class_name": pipeline_class(repo)}}
        case "transformers" | "pickle":
            tokens: Json = {"bos_token": "<s>", "eos_token": {"content": "</s>", "lstrip": False}}
            return {
                "architectures": [architecture(repo)],
                "model_type": repo.family,
                "tokenizer_config": tokens,
            }
        case "peft":
            return {"peft": {"base_model_name_or_path": repo.base_model, "task_type": "CAUSAL_LM"}}
        case "gguf":
            return {}
    return MISSING
