"""One repository of the Hugging Face dialect: its document, tree, paths, refs and commits."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, urlencode

from tests.hubsim import messages
from tests.hubsim.hf_catalog import Commit
from tests.hubsim.hf_files import RepoFile
from tests.hubsim.hf_lists import bad, expanded, flag
from tests.hubsim.hf_population import Repo
from tests.hubsim.messages import Refused, Request, Response
from tests.hubsim.population import Json
from tests.hubsim.synthetic import iso

if TYPE_CHECKING:
    from tests.hubsim.huggingface import HuggingFace

_INFO = (
    "id", "private", "pipeline_tag", "library_name", "tags", "downloads", "likes", "modelId",
    "author", "sha", "lastModified", "gated", "disabled", "mask_token", "widgetData",
    "model-index", "config", "cardData", "transformersInfo", "safetensors", "gguf", "siblings",
    "spaces", "createdAt", "usedStorage", "inference", "trendingScore",
)  # fmt: skip
_TREE_PAGE, _EXPANDED_PAGE = 1000, 50
_MOST_PATHS = 2000
_SCANNERS = ("jFrogScan", "protectAiScan", "virusTotalScan", "avScan", "pickleImportScan")


@dataclass(frozen=True, slots=True)
class Revision:
    """What a revision names: a commit, and how many commits its files have seen."""

    sha: str
    number: int


class RepoPages:
    def __init__(self, hub: HuggingFace) -> None:
        self._hub = hub

    # -- revisions ---------------------------------------------------------------------------------

    def revision(self, request: Request, repo: Repo, name: str, *, short: bool = True) -> Revision:
        """A branch, a tag, a pull request's ref, a commit (the API also takes a short one)."""
        commits = self._hub.catalog.commits(repo)
        head = commits[-1]
        if name in ("main", "refs/heads/main"):
            return Revision(head.sha, head.number)
        if name == "refs/pr/1" and self._hub.catalog.has_pull_request(repo):
            return self._pull_request(repo, head)
        if name == "v1.0" and self._hub.catalog.is_tagged(repo):
            return Revision(commits[min(1, head.number)].sha, min(1, head.number))
        least = 7 if short else 40
        if len(name) >= least and re.fullmatch("[0-9a-f]+", name):
            for commit in commits:
                if commit.sha.startswith(name):
                    return Revision(commit.sha, commit.number)
            if self._hub.catalog.has_pull_request(repo):
                request_commit = self._pull_request(repo, head)
                if request_commit.sha.startswith(name):
                    return request_commit
        raise Refused(self._missing(request, f"Invalid rev id: {name}", "RevisionNotFound"))

    def _pull_request(self, repo: Repo, head: Commit) -> Revision:
        sha = hashlib.sha1(f"{repo.key}/pr/1".encode(), usedforsecurity=False).hexdigest()
        return Revision(sha, head.number)

    def _missing(self, request: Request, text: str, code: str, sha: str | None = None) -> Response:
        if request.path.startswith("/api/"):
            response = messages.document(404, {"error": text})
        else:
            response = messages.text(404, text)
        response.set_header("X-Error-Code", code)
        response.set_header("X-Error-Message", text)
        if sha is not None:
            response.set_header("X-Repo-Commit", sha)
        return response

    def no_entry(self, request: Request, sha: str) -> Refused:
        return Refused(self._missing(request, "Entry not found", "EntryNotFound", sha))

    # -- the document ------------------------------------------------------------------------------

    def info(self, request: Request, repo: Repo, revision: str | None) -> Response:
        catalog = self._hub.catalog
        at = self.revision(request, repo, revision) if revision is not None else None
        wanted = expanded(request)
        source = catalog.source(repo.key)
        if wanted:
            names: Sequence[str] = ("id", *wanted)
        elif source is not None and source.verbatim:
            names = source.own_keys(repo.key)
        else:
            names = _INFO
        shown = catalog.document(repo, names)
        number = repo.commits - 1
        if at is not None:
            number = at.number
            if "sha" in shown:
                shown["sha"] = at.sha
        blobs = flag(request, "blobs")
        if "siblings" in shown and (blobs or at is not None):
            files = catalog.files(repo, number)
            shown["siblings"] = [self._sibling(file, blobs) for file in files]
        if flag(request, "securityStatus"):
            shown["securityRepoStatus"] = self._security_of_repo(repo)
        return messages.document(200, shown)

    def _sibling(self, file: RepoFile, blobs: bool) -> Json:
        if not blobs:
            return {"rfilename": file.path}
        blob = self._hub.catalog.blobs.describe(file)
        shown: Json = {
            "rfilename": file.path,
            "size": blob.size_bytes,
            "blobId": blob.git_sha1,
        }
        if blob.sha256 is not None:
            shown["lfs"] = {
                "sha256": blob.sha256,
                "size": blob.size_bytes,
                "pointerSize": blob.pointer_size,
            }
        return shown

    def _security_of_repo(self, repo: Repo) -> Json:
        issues = [
            {"path": file.path, "level": "unsafe"}
            for file in self._hub.catalog.files(repo)
            if repo.special == "unsafe" and file.path.endswith(".bin")
        ]
        return {"scansDone": repo.special != "unscanned", "filesWithIssues": issues}

    # -- the tree ----------------------------------------------------------------------------------

    def tree(self, request: Request, repo: Repo, revision: str, folder: str) -> Response:
        at = self.revision(request, repo, revision)
        expand = flag(request, "expand")
        entries = self._entries(repo, at, folder, flag(request, "recursive"))
        if folder and not entries:
            raise self.no_entry(request, at.sha)
        most = _EXPANDED_PAGE if expand else _TREE_PAGE
        limit_text = request.arg("limit") or ""
        limit = min(int(limit_text), most) if limit_text.isdecimal() and int(limit_text) else most
        start = 0
        cursor = request.arg("cursor")
        if cursor is not None:
            last = _read_cursor(cursor, at.sha)
            start = next((i + 1 for i, (path, _) in enumerate(entries) if path == last), -1)
            if start < 0:
                raise bad("Invalid cursor")
        page = entries[start : start + limit]
        shown = [self._entry(repo, at, path, file, expand) for path, file in page]
        response = messages.document(200, shown)
        if start + limit < len(entries):
            kept = [(key, value) for key, value in request.query if key != "cursor"]
            query = urlencode([*kept, ("cursor", _write_cursor(page[-1][0], at.sha))])
            path = request.target.partition("?")[0]
            response.set_header("Link", f'<{self._hub.base_url}{path}?{query}>; rel="next"')
        return response

    def _entries(
        self, repo: Repo, at: Revision, folder: str, recursive: bool
    ) -> list[tuple[str, RepoFile | None]]:
        """(path, file) in a folder, None for a folder; folders before files."""
        prefix = f"{folder}/" if folder else ""
        folders: dict[str, None] = {}
        files: list[tuple[str, RepoFile | None]] = []
        for file in self._hub.catalog.files(repo, at.number):
            if not file.path.startswith(prefix):
                continue
            inner = file.path[len(prefix) :].split("/")[:-1]
            for depth in range(len(inner) if recursive else min(1, len(inner))):
                folders[prefix + "/".join(inner[: depth + 1])] = None
            if recursive or not inner:
                files.append((file.path, file))
        files.sort(key=lambda pair: pair[0])
        return [*((path, None) for path in sorted(folders)), *files]

    def _entry(
        self, repo: Repo, at: Revision, path: str, file: RepoFile | None, expand: bool
    ) -> Json:
        if file is None:
            name = f"{at.sha}:{path}".encode()
            oid = hashlib.sha1(name, usedforsecurity=False).hexdigest()
            entry: Json = {"type": "directory", "oid": oid, "size": 0, "path": path}
        else:
            blob = self._hub.catalog.blobs.describe(file)
            entry = {"type": "file", "oid": blob.git_sha1, "size": blob.size_bytes, "path": path}
            if blob.sha256 is not None:
                entry["lfs"] = {
                    "oid": blob.sha256,
                    "size": blob.size_bytes,
                    "pointerSize": blob.pointer_size,
                }
                if self._hub.xet:
                    entry["xetHash"] = blob.xet_hash
        if expand:
            commit = self._last_commit(repo, at, path)
            entry["lastCommit"] = {
                "id": commit.sha,
                "title": commit.title,
                "date": iso(commit.date_ms),
            }
            if file is not None:
                entry["securityFileStatus"] = _security(repo, file)
        return entry

    def _last_commit(self, repo: Repo, at: Revision, path: str) -> Commit:
        commits = self._hub.catalog.commits(repo)[: at.number + 1]
        overlay = self._hub.catalog.overlays.get(repo.key)
        edits = overlay.edits if overlay is not None else []
        first = repo.commits - len(edits)
        for commit in reversed(commits):
            edit = edits[commit.number - first] if commit.number >= first else None
            if edit is not None and edit.path is not None and edit.path == path:
                return commit
            if path == "README.md" and (edit is None or edit.path is None):
                return commit
        return commits[min(1, len(commits) - 1)]

    # -- the others --------------------------------------------------------------------------------

    def paths_info(self, request: Request, repo: Repo, revision: str) -> Response:
        """A form (the Python client) or JSON (the others); unknown paths are left out."""
        at = self.revision(request, repo, revision)
        content_type = request.header("content-type") or ""
        try:
            if content_type.startswith("application/json"):
                asked = json.loads(request.body)
                paths, expand = [str(path) for path in asked["paths"]], bool(asked.get("expand"))
            else:
                pairs = parse_qsl(request.body.decode(), keep_blank_values=True)
                paths = [value for name, value in pairs if name == "paths"]
                expand = dict(pairs).get("expand", "").lower() == "true"
        except (ValueError, KeyError, TypeError, AttributeError):
            raise bad('"paths" is required') from None
        if len(paths) > _MOST_PATHS:
            raise bad(f'"paths" must contain less than or equal to {_MOST_PATHS} items')
        known = dict(self._entries(repo, at, "", recursive=True))
        shown = [
            self._entry(repo, at, path, known[path], expand)
            for path in dict.fromkeys(path.strip("/") for path in paths)
            if path in known
        ]
        return messages.document(200, shown)

    def refs(self, request: Request, repo: Repo) -> Response:
        catalog = self._hub.catalog
        commits = catalog.commits(repo)
        shown: Json = {
            "tags": [],
            "branches": [_ref("main", "refs/heads/main", commits[-1].sha)],
            "converts": [],
        }
        if catalog.is_tagged(repo):
            sha = self.revision(request, repo, "v1.0").sha
            shown["tags"] = [_ref("v1.0", "refs/tags/v1.0", sha)]
        if flag(request, "include_prs"):
            shown["pullRequests"] = []
            if catalog.has_pull_request(repo):
                sha = self._pull_request(repo, commits[-1]).sha
                shown["pullRequests"] = [_ref("1", "refs/pr/1", sha)]
        return messages.document(200, shown)

    def commits(self, request: Request, repo: Repo, revision: str) -> Response:
        at = self.revision(request, repo, revision)
        commits = self._hub.catalog.commits(repo)[at.number :: -1]
        author = {"user": repo.author or "sim", "_id": repo.key}
        shown = [
            {
                "id": commit.sha,
                "title": commit.title,
                "message": "",
                "authors": [author],
                "date": iso(commit.date_ms),
            }
            for commit in commits
        ]
        return messages.document(200, shown, ("X-Total-Count", str(len(shown))))


def _ref(name: str, ref: str, sha: str) -> Json:
    return {"name": name, "ref": ref, "targetCommit": sha}


def _write_cursor(path: str, sha: str) -> str:
    inner = base64.b64encode(json.dumps({"file_name": path, "tree_oid": sha}).encode())
    return base64.b64encode(inner + b":1000").decode()


def _read_cursor(cursor: str, sha: str) -> str:
    """The last path of the page before; a cursor of another commit's tree is dead."""
    try:
        inner = base64.b64decode(cursor, validate=True).partition(b":")[0]
        place = json.loads(base64.b64decode(inner, validate=True))
        if place["tree_oid"] == sha:
            return str(place["file_name"])
    except (ValueError, KeyError, TypeError):
        pass
    raise bad("Invalid cursor")


def _security(repo: Repo, file: RepoFile) -> Json:
    """Pickles are looked into; whatever is not large is never scanned by most."""
    if repo.special == "unscanned":
        return {"status": "unscanned"} | {name: {"status": "unscanned"} for name in _SCANNERS}
    pickled = file.path.endswith((".bin", ".pt", ".pth", ".ckpt"))
    wicked = repo.special == "unsafe" and pickled
    imports = [{"module": "torch._utils", "name": "_rebuild_tensor_v2", "safety": "innocuous"}]
    if wicked:
        imports.append({"module": "builtins", "name": "eval", "safety": "dangerous"})
    status: Json = {"status": "unsafe" if wicked else "safe"}
    status |= {name: {"status": "safe"} for name in (*_SCANNERS[:2], "avScan")}
    status["virusTotalScan"] = {"status": "unscanned"}
    scan: Json = {"status": "unscanned", "pickleImports": [], "version": "0.0.0"}
    if pickled:
        scan["status"] = "unsafe" if wicked else "innocuous"
        scan["pickleImports"] = imports
    status["pickleImportScan"] = scan
    return status
