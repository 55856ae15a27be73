"""Topics of the event log and the kinds of event under each.

``metrics`` and ``node`` are reserved: subscribing to them is allowed, nothing is sent yet.
"""

MODEL = "model"
LIBRARY = "library"
TRANSFER = "transfer"
SYNC = "sync"
METRICS = "metrics"
NODE = "node"

TOPICS: dict[str, str] = {
    MODEL: "the catalog changed",
    LIBRARY: "files on disk and the folders that are watched",
    TRANSFER: "download jobs",
    SYNC: "crawls of the hubs",
    METRICS: "reserved",
    NODE: "reserved",
}

# topic -> kind -> what it means: the subject first, then the payload's fields; those in brackets
# only where they are known
KINDS: dict[str, dict[str, str]] = {
    MODEL: {
        "page": "a hub: a page of its catalog was taken in; hub, view, count, new, changed",
        "details": "a model: its files are known in full, or anew; hub, files, size_bytes",
        "gone": "a model: the hub has denied it for days and it is believed; what is known of it"
        " stays; hub, name, reason, looks, since_ms",
        "back": "a model: one that was gone is there again; hub, name",
        "archived": "a model: its creator has archived it; hub, name, from",
        "taken_down": "a model: the hub has taken it down; hub, name, from",
        "listed": "a model: it is no longer archived or taken down; hub, name, from",
        "renamed": "a model: people call it by another name now; hub, name, from, to",
        "kind.new": "a word: a hub names a type or base model by it that is not known yet; kind,"
        " hub",
        "legacy.imported": "a path: a models.json was taken in; entries, odd, linked, files",
        "legacy.broken": "a path: a models.json can't be read and was left alone; why",
    },
    LIBRARY: {
        "file.confirmed": "a path: a person said what the file is; [type, base]",
        "file.added": "a path: a file appeared in a watched folder, came back (returned), was"
        " placed there by a download (placed), or was named by a models.json (registered);"
        " size_bytes, [sha256, ref, name]",
        "file.identified": "a path: its content is known to the catalog; ref, name, [sha256]",
        "file.moved": "a path: the file was at `from` before; from, [ref, name]",
        "file.changed": "a path: the content changed; size_bytes",
        "file.gone": "a path: the file is not there any more; [ref, name]",
        "root.added": "a path: that folder is watched from now on; layout",
        "root.removed": "a path: that folder is no longer watched",
        "root.offline": "a path: that folder can't be reached, its files are kept in the list;"
        " root_id, why",
        "root.online": "a path: that folder is there again; root_id",
        "root.dirty": "a path: events of that folder were lost or may be, it will be walked again;"
        " root_id, why",
        "root.warning": "a path: something about watching that folder needs a person; message",
        "scan.finished": "a path: a walk of that folder is complete; seen, new, changed, moved,"
        " gone, skipped",
    },
    TRANSFER: {
        "job.queued": "a job: it waits for its turn; job_id, ref, name, state",
        "job.state": "a job: it moved to `state`; the same, [path, wait_for, verdict, error]",
        "job.done": "a job: the file is in the library; the same, path",
        "job.failed": "a job: it gave up; the same, error: code, message, hint",
    },
    SYNC: {
        "run.started": "a hub: a crawl began, or went on (resumed); run_id, kind, resumed",
        "run.finished": "a hub: the crawl is complete; run_id, kind, pages, seen, new, changed,"
        " odd, gaps, suspects",
        "run.failed": "a hub: the crawl gave up for now; run_id, code, message, hint",
        "hub.breaker": "a hub: an operation of it is not asked any more (open, paused), is tried"
        " (half_open), or asked again (closed); hub, operation, state, reason, until_ms",
        "odd": "a document: it did not fit and was kept raw; kind, reason, odd_id",
        "api.changed": "an endpoint: its answers have changed; hub, operation,"
        " version, severity, count, changes: change_id, kind, severity, path",
        "api.paused": "an endpoint: it is not asked any more, since its answers can't be read; hub,"
        " operation, reason, change_id",
        "api.resumed": "an endpoint: it is asked again; hub, operation, by (probe or person)",
    },
    METRICS: {},
    NODE: {},
}
