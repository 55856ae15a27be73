"""The Hugging Face dialect with its catalog: what tests and the control paths ask of it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping

from tests.hubsim import messages
from tests.hubsim.bytes import Contents
from tests.hubsim.hf_catalog import RepoCatalog, RepoSource
from tests.hubsim.hf_changes import RepoChanges
from tests.hubsim.hf_lists import EXPANDABLE
from tests.hubsim.hf_population import Repo
from tests.hubsim.hf_recorded import RecordedRepos
from tests.hubsim.hf_source import SyntheticRepos
from tests.hubsim.huggingface import HuggingFace
from tests.hubsim.options import HubOptions
from tests.hubsim.population import Json


class HuggingFaceWorld:
    def __init__(
        self, options: HubOptions, contents: Contents, wall_s: Callable[[], float]
    ) -> None:
        self._options = options
        self.recorded: RecordedRepos | None = None
        sources: list[RepoSource] = []
        if options.models:
            sources.append(
                SyntheticRepos(options.models, options.seed, contents, options.large_files)
            )
        if options.folder is not None:
            self.recorded = RecordedRepos(options.folder, contents, as_recorded=options.as_recorded)
            sources.append(self.recorded)
        self.catalog = RepoCatalog(sources, contents, seed=options.seed)
        self._changes = RepoChanges(self.catalog)
        self.dialect = HuggingFace(
            self.catalog,
            wall_s=wall_s,
            tokens=options.tokens,
            granted=options.granted,
            quotas=options.quotas,
            window_s=options.window_s,
            largest_page=options.largest_page,
            xet=options.xet,
            recorded=self.recorded,
            advance=self.advance,
        )
        self.set_era(options.era)
        for key in self.large_ids():
            # Hashes it now, so that no request waits for that.
            for file in self.catalog.files(self._known(key)):
                self.catalog.blobs.describe(file)

    def _known(self, key: str) -> Repo:
        repo = self.catalog.repo(key) or self.catalog.find(key)
        if repo is None:
            raise LookupError(f"no such repository: {key}")
        return repo

    def change(self, wanted: Mapping[str, object]) -> dict[str, list[str]]:
        return self._changes.change(wanted)

    def advance(self) -> None:
        if self.recorded is not None:
            self.recorded.advance()

    def set_era(self, date: str | None) -> None:
        if date is not None:
            raise ValueError("the Hugging Face dialect knows no eras")

    def large_ids(self) -> list[str]:
        return self.catalog.synthetic.large_ids() if self._options.large_files else []

    def specials(self) -> dict[str, str]:
        return self.catalog.specials()

    def state(self) -> dict[str, object]:
        return {
            "models": sum(1 for _ in self.catalog.ids()),
            "state": self.recorded.state if self.recorded else 0,
            "now_ms": self.catalog.now_ms,
        }

    def version_ids(self, hub_id: int) -> list[int]:
        raise LookupError("a repository has commits, no versions with numbers")

    def name(self, key: str) -> str:
        """What a repository is called now."""
        return self._known(key).name

    def document(self, hub_id: object, *fields: str) -> Json | None:
        """A repository's document with the named fields, or all: by `_id` or by name."""
        repo = self.catalog.repo(str(hub_id)) or self.catalog.find(str(hub_id))
        if repo is None:
            return None
        return self.catalog.document(repo, ("id", *(fields or EXPANDABLE)))

    def truth(self, *, digests: bool = True) -> dict[str, dict[str, object]]:
        """What a complete crawl must know of each repository, by `_id`.

        `state` is "listed" or "disabled" for those in the list, "private" or "removed" for those
        that are not. The digest is the SHA-256 of the files at the head: path, size, etag.
        """
        seen: dict[str, dict[str, object]] = {}
        for key in self.catalog.ids():
            repo = self._known(key)
            if not self.catalog.bears_id(repo):
                continue  # nobody can know it by an `_id`
            shown = self.catalog.document(
                repo, ("id", "sha", "lastModified", "downloads", "likes", "gated", "tags")
            )
            del shown["_id"]
            shown["state"] = repo.gone or ("disabled" if repo.disabled else "listed")
            if digests and not repo.gone:
                shown["files_sha256"] = self._files_digest(repo)
            seen[key] = shown
        return seen

    def _files_digest(self, repo: Repo) -> str:
        files = sorted(
            (file.path, blob.size_bytes, blob.etag)
            for file in self.catalog.files(repo)
            for blob in [self.catalog.blobs.describe(file)]
        )
        return hashlib.sha256(messages.canonical(files)).hexdigest()
