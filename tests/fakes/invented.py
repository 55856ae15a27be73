"""The world of the fake daemon: a few models, files, jobs and events, all made up."""

from collections.abc import Callable
from typing import Any

from modelkeep_protocol import errors, methods
from modelkeep_protocol.errors import ModelkeepError

NOW_MS = 1_700_000_000_000
SHA256 = "ab" * 32
# what a job goes through, a step each time it is looked at
STEPS = ("queued", "resolving", "downloading", "downloading", "verifying", "scanning", "placing")
MB = 1_000_000


def run(**changes: Any) -> dict[str, Any]:
    """A sync run."""
    return {
        "hub": "civitai", "run_id": 1, "kind": "full", "state": "running", "phase": "nsfw pass",
        "started_ms": NOW_MS, "ended_ms": None, "pages": 12, "requests": 13, "models_seen": 1200,
        "models_new": 1100, "models_changed": 3, "odd": 0, "total_estimate": 4800, "eta_s": 90.0,
        "error": None, "hint": None, "fraction": 0.25, "models_per_s": 40.0, "waiting_s": None,
        "gaps": 0, **changes,
    }  # fmt: skip


def item(number: int = 1, **changes: Any) -> dict[str, Any]:
    """A model in a list of hits."""
    return {
        "ref": f"civitai:{number}", "name": f"Model {number}", "hub": "civitai", "type": "LORA",
        "base_model": "SDXL 1.0", "creator": "someone", "tags": ["anime", "style"],
        "downloads": 12345 * number, "nsfw_level": 1, "owned": False, "updated_ms": NOW_MS,
        "size_bytes": 228 * MB, "hub_state": "listed", **changes,
    }  # fmt: skip


def file_detail(**changes: Any) -> dict[str, Any]:
    """A file of a version."""
    return {
        "ref": "civitai:1102@1301#7", "name": "model.safetensors", "kind": "Model",
        "format": "SafeTensor", "size_bytes": 228 * MB, "sha256": SHA256, "primary": True,
        "owned_path": None, **changes,
    }  # fmt: skip


def version_detail(**changes: Any) -> dict[str, Any]:
    """A version of a model."""
    return {
        "ref": "civitai:1102@1301", "name": "v1.0", "base_model": "SDXL 1.0",
        "published_ms": NOW_MS, "availability": "Public", "trained_words": ["sks"],
        "description": "", "files": [file_detail()], **changes,
    }  # fmt: skip


def model_detail(**changes: Any) -> dict[str, Any]:
    """A model with one version."""
    return {
        "ref": "civitai:1102", "name": "水彩 Style", "hub": "civitai", "type": "LORA",
        "creator": "someone", "tags": ["watercolor"], "base_models": ["SDXL 1.0"],
        "description": "Paints like water.\nSecond line.", "nsfw_level": 1, "downloads": 4321,
        "likes": 21, "commercial": True, "hub_state": "listed", "owned": False,
        "published_ms": NOW_MS, "updated_ms": NOW_MS, "fetched_ms": NOW_MS,
        "url": "https://civitai.com/models/1102", "versions": [version_detail()], **changes,
    }  # fmt: skip


def job(number: int = 1, **changes: Any) -> dict[str, Any]:
    """A download job."""
    return {
        "id": number, "ref": f"civitai:{number}@1#1", "name": f"file{number}.safetensors",
        "state": "queued", "size_bytes": 100 * MB, "done_bytes": 0, "rate_bytes_per_s": 0.0,
        "eta_s": None, "priority": 0, "attempts": 0, "path": None, "sha256": None,
        "verdict": None, "warning": None, "error": None, "created_ms": NOW_MS,
        "updated_ms": NOW_MS, **changes,
    }  # fmt: skip


def api_change(**changes: Any) -> dict[str, Any]:
    """A change of a hub's API."""
    return {
        "id": 12, "hub": "civitai", "operation": "list", "kind": "field_gone",
        "severity": "degraded", "path": "items[].stats.rating", "before": "number", "after": None,
        "example": '{"downloadCount": 5}', "suggestion": "Likes stand in for it.",
        "at_ms": NOW_MS, "version": 3, "accepted_ms": None, **changes,
    }  # fmt: skip


def api_endpoint(**changes: Any) -> dict[str, Any]:
    """An endpoint that has answered."""
    return {
        "hub": "civitai", "operation": "list", "version": 3, "documents": 812,
        "since_ms": NOW_MS, "last_ms": NOW_MS, "paused": None, **changes,
    }  # fmt: skip


def history_change(**changes: Any) -> dict[str, Any]:
    """A change of a model."""
    return {
        "at_ms": NOW_MS, "kind": "license", "what": "commercial use", "before": True,
        "after": False, "version": None, **changes,
    }  # fmt: skip


def snapshot_task(**changes: Any) -> dict[str, Any]:
    """An export that has ended."""
    return {
        "kind": "export", "state": "finished", "path": "/tmp/catalog.mks", "models": 1102,
        "total": 1102, "size_bytes": 3 * MB, "fraction": 1.0, "eta_s": None, "new": 0,
        "changed": 0, "key": "ab12", "code": None, "error": None, "hint": None, **changes,
    }  # fmt: skip


def kind_guesses(params: dict[str, Any]) -> dict[str, Any]:
    """What a file may be."""
    guess = {"kind": "type", "name": "LORA", "confidence": 0.93, "reasons": ["lora_up tensors"]}
    return {"path": params["path"], "items": [guess]}


def failed(number: int, code: str, message: str = "it went wrong") -> dict[str, Any]:
    """A job that gave up."""
    error = {"code": code, "message": message, "hint": "do something", "ref": ""}
    return job(number, state="failed", error=error)


def library_file(**changes: Any) -> dict[str, Any]:
    """A file on disk."""
    return {
        "path": "/models/loras/a.safetensors", "size_bytes": 228 * MB, "sha256": SHA256,
        "ref": "civitai:1102@1301#7", "name": "水彩 Style", "state": "present",
        "verdict": "safe", "mtime_ms": NOW_MS, **changes,
    }  # fmt: skip


def root(**changes: Any) -> dict[str, Any]:
    """A watched folder."""
    return {
        "path": "/models", "layout": "comfyui", "state": "online", "files": 1,
        "size_bytes": 228 * MB, "watching": "events", "warning": None, **changes,
    }  # fmt: skip


def status(**changes: Any) -> dict[str, Any]:
    """The answer of daemon.status."""
    return {
        "daemon": {
            "version": "0.1.0", "pid": 4242, "uptime_s": 3725.0, "started_ms": NOW_MS,
            "epoch": "e1", "home": "/home/someone/.config/modelkeep", "protocol": "1.0",
            "services": {"store": "running", "rpc": "running"},
        },
        "catalog": {"models": 1102, "versions": 2204, "files": 3306, "odd_documents": 0,
                    "indexed": True},
        "queue": {"active": 1, "waiting": 2, "failed": 0, "paused": 0, "quarantined": 0,
                  "rate_bytes_per_s": 12.5 * MB},
        "library": {"files": 3, "size_bytes": 684 * MB, "identified": 2, "unhashed": 1,
                    "roots": 1, "offline_roots": 0},
        "hubs": [{"name": "civitai", "base_url": "https://civitai.com", "has_token": False,
                  "last_sync_ms": NOW_MS, "sync": None, "next_sync_ms": None, "is_quiet": False,
                  "requests": None, "breakers": [], "breaker_history": [], "coverage": None}],
        "warnings": [], **changes,
    }  # fmt: skip


class World:
    """Answers by method; jobs that are listed move on, and their steps are events."""

    def __init__(self, epoch: str) -> None:
        self.epoch = epoch
        self.jobs: dict[int, dict[str, Any]] = {}
        self.events: list[dict[str, Any]] = []
        self.sync_looks = 0
        self.is_frozen = False  # jobs stay as they are
        self.snapshot: dict[str, Any] = snapshot_task(state="none")
        self._answers: dict[str, Callable[[dict[str, Any]], Any]] = {
            methods.DAEMON_PING: lambda p: {"at_ms": NOW_MS},
            methods.DAEMON_STATUS: lambda p: status(),
            methods.DAEMON_STOP: lambda p: {},
            methods.SYNC_START: lambda p: {"runs": [run()]},
            methods.SYNC_STATUS: self._sync_status,
            methods.CATALOG_SEARCH: self._search,
            methods.CATALOG_SHOW: self._show,
            methods.CATALOG_COMPLETE: self._complete,
            methods.CATALOG_HISTORY: lambda p: {
                "ref": p["ref"], "items": [history_change()], "more": False, "damaged": False,
                "next_before_ms": None, "name": "x", "statistics": [],
            },
            methods.API_CHANGES: lambda p: {"items": [api_change()], "total": 1},
            methods.API_ENDPOINTS: lambda p: {"items": [api_endpoint()]},
            methods.API_DIFF: lambda p: {"items": [api_change()], "total": 1},
            methods.API_ACCEPT: lambda p: api_change(id=p["id"], accepted_ms=NOW_MS),
            methods.API_RESUME: lambda p: {"items": [api_endpoint()]},
            methods.KINDS_LIST: lambda p: {
                "items": [{
                    "kind": "type", "name": "LORA", "synonyms": ["lora"], "about": "an adapter",
                    "folder": "loras", "is_known": True, "first_seen_ms": None,
                }]
            },
            methods.KINDS_GUESS: kind_guesses,
            methods.KINDS_CONFIRM: kind_guesses,
            methods.SNAPSHOT_EXPORT: self._snapshot,
            methods.SNAPSHOT_IMPORT: self._snapshot,
            methods.SNAPSHOT_STATUS: self._snapshot_status,
            methods.SNAPSHOT_CANCEL: lambda p: snapshot_task(state="canceled"),
            methods.TRANSFER_GET: self._get,
            methods.TRANSFER_LIST: self._list,
            methods.TRANSFER_PAUSE: lambda p: self._set(p, "paused"),
            methods.TRANSFER_RESUME: lambda p: self._set(p, "queued"),
            methods.TRANSFER_CANCEL: lambda p: self._set(p, "canceled"),
            methods.TRANSFER_RETRY: lambda p: self._set(p, "queued"),
            methods.TRANSFER_MOVE: self._move,
            methods.LIBRARY_LIST: lambda p: {"items": [library_file()], "total": 1},
            methods.LIBRARY_ROOTS: lambda p: {"items": [root()]},
            methods.LIBRARY_ADD: lambda p: {"items": [root(path=p["path"])]},
            methods.LIBRARY_REMOVE: lambda p: {"items": []},
            methods.LIBRARY_SCAN: lambda p: {
                "items": [{"path": "/models", "seen": 3, "new": 1, "changed": 0, "moved": 0,
                           "gone": 0, "skipped": {"symbolic link": 1}}]
            },
            methods.EVENTS_READ: self.read_events,
        }  # fmt: skip

    def answer(self, method: str) -> Callable[[dict[str, Any]], Any]:
        """The answer to a method."""
        return self._answers[method]

    def emit(self, topic: str, kind: str, subject: str, **payload: Any) -> str:
        """Append an event; its cursor."""
        cursor = f"{self.epoch}:{len(self.events) + 1}"
        self.events.append({
            "cursor": cursor, "at_ms": NOW_MS, "topic": topic, "kind": kind, "subject": subject,
            "payload": payload,
        })  # fmt: skip
        return cursor

    def read_events(self, params: dict[str, Any]) -> dict[str, Any]:
        """A page of events; never waits."""
        newest = len(self.events)
        if not params.get("since"):
            return {"events": [], "cursor": f"{self.epoch}:{newest}", "fresh": False}
        epoch, _, seq = params["since"].partition(":")
        if epoch != self.epoch:
            return {"events": [], "cursor": f"{self.epoch}:{newest}", "fresh": True}
        topics = params.get("topics")
        after = [e for e in self.events[int(seq) :] if not topics or e["topic"] in topics]
        page = after[: params.get("limit") or 100]
        cursor = page[-1]["cursor"] if len(page) < len(after) else f"{self.epoch}:{newest}"
        return {"events": page, "cursor": cursor, "fresh": False}

    def _sync_status(self, params: dict[str, Any]) -> Any:
        self.sync_looks += 1
        if self.sync_looks < 3:
            return {"runs": [run(models_seen=1200 * self.sync_looks)]}
        return {"runs": [run(state="finished", ended_ms=NOW_MS + 4000, eta_s=None)]}

    def _snapshot(self, params: dict[str, Any]) -> Any:
        kind = "import" if "trust" in params else "export"
        self.snapshot = snapshot_task(
            kind=kind, state="running", path=params["path"], models=300, fraction=0.25
        )
        return self.snapshot

    def _snapshot_status(self, params: dict[str, Any]) -> Any:
        if not self.is_frozen:
            self.snapshot = {**self.snapshot, "state": "finished", "models": 1102}
        return self.snapshot

    def _search(self, params: dict[str, Any]) -> Any:
        first, limit = params.get("offset", 0), params.get("limit", 20)
        items = [item(n + 1) for n in range(first, min(first + limit, 30))]
        return {"total": 30, "items": items, "facets": {}}

    def _show(self, params: dict[str, Any]) -> Any:
        if params["ref"] != "civitai:1102":
            raise ModelkeepError(
                errors.NOT_FOUND, f"{params['ref']} is not in the catalog", "modelkeep sync"
            )
        return model_detail(raw={"id": 1102}) if params.get("raw") else model_detail()

    def _complete(self, params: dict[str, Any]) -> Any:
        known = {"tags": ["anime", "animal", "style"], "types": ["LORA"], "bases": ["SDXL 1.0"]}
        known["jobs"] = [str(number) for number in self.jobs]
        found = known.get(params["kind"], [])
        return {"items": [value for value in found if value.startswith(params["prefix"])]}

    def _get(self, params: dict[str, Any]) -> Any:
        jobs, problems = [], []
        for ref in params["refs"]:
            kind, _, number = ref.partition(":")
            if kind == "civitai" and number.isdecimal():
                new = job(len(self.jobs) + 1, ref=f"{ref}@1#1", name=f"file{number}.safetensors")
                self.jobs[new["id"]] = new
                jobs.append(new)
            elif kind == "owned":
                jobs.append(job(0, state="done", path="/models/have.safetensors", sha256=SHA256))
            else:
                code = kind if kind in errors.CODES else errors.NOT_FOUND
                problems.append(
                    {"code": code, "message": f"{code} it is", "hint": "go elsewhere", "ref": ref}
                )
        total = sum(j["size_bytes"] for j in jobs if j["id"])
        return {"jobs": jobs, "errors": problems, "total_bytes": total}

    def _list(self, params: dict[str, Any]) -> Any:
        ids, states = params.get("ids"), params.get("states")
        for moving in () if self.is_frozen else self.jobs.values():
            self._step(moving)
        found = [j for j in self.jobs.values() if not ids or j["id"] in ids]
        found = [j for j in found if not states or j["state"] in states]
        found = [j for j in found if j["id"] > params.get("after_id", 0)]
        return {"jobs": found[: params.get("limit", 100)], "total": len(found)}

    def _step(self, moving: dict[str, Any]) -> None:
        if moving["state"] not in STEPS:
            return
        if moving["state"] == "downloading" and moving["done_bytes"] < moving["size_bytes"]:
            moving["done_bytes"] += moving["size_bytes"] // 2
            moving["rate_bytes_per_s"], moving["eta_s"] = 12.5 * MB, 4.0
            return
        step = len(STEPS) - STEPS[::-1].index(moving["state"])
        moving["state"] = STEPS[step] if step < len(STEPS) else "done"
        if moving["state"] == "done":
            moving |= {"path": f"/models/loras/{moving['name']}", "sha256": SHA256}
            moving["rate_bytes_per_s"], moving["eta_s"] = 0.0, None
        self.emit("transfer", "job.state", f"job:{moving['id']}", state=moving["state"])

    def _set(self, params: dict[str, Any], state: str) -> Any:
        ids = params.get("ids") or list(self.jobs)
        for number in ids:
            if number in self.jobs:
                self.jobs[number]["state"] = state
        found = [self.jobs[number] for number in ids if number in self.jobs]
        return {"jobs": found, "total": len(found)}

    def _move(self, params: dict[str, Any]) -> Any:
        for number in params["ids"]:
            if number in self.jobs:
                self.jobs[number]["priority"] = params["priority"]
        found = [self.jobs[number] for number in params["ids"] if number in self.jobs]
        return {"jobs": found, "total": len(found)}
