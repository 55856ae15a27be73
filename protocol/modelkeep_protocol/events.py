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

# topic -> kind -> what it means; the subject is named first
KINDS: dict[str, dict[str, str]] = {
    MODEL: {
        "page": "a hub: a page of its catalog was taken in; payload: hub, count, new, changed",
    },
    LIBRARY: {
        "file.added": "a path: a file appeared in a watched folder or was placed there",
        "file.identified": "a path: its content is known to the catalog; payload: ref, name",
        "file.moved": "a path: the file was at payload's `from` before",
        "file.changed": "a path: the content changed",
        "file.gone": "a path: the file is not there any more",
        "root.added": "a root: it is watched from now on",
        "root.removed": "a root: it is no longer watched",
        "root.offline": "a root: its folder can't be reached; its files are kept in the list",
        "root.online": "a root: its folder is there again",
        "root.dirty": "a root: events were lost or may be; it will be walked again",
        "root.warning": "a root: something about watching it needs a person; payload: message",
        "scan.finished": "a root: a walk is complete; payload: counts",
    },
    TRANSFER: {
        "job.queued": "a job: it waits for its turn",
        "job.state": "a job: it moved to payload's `state`",
        "job.done": "a job: the file is in the library; payload: path, sha256",
        "job.failed": "a job: it gave up; payload: error",
        "job.quarantined": "a job: the file was set aside; payload: verdict, reasons",
        "job.canceled": "a job: it was canceled",
        "job.warning": "a job: it goes on, with something to know; payload: message",
    },
    SYNC: {
        "run.started": "a hub: a crawl began or went on",
        "run.finished": "a hub: the crawl is complete; payload: counts",
        "run.failed": "a hub: the crawl gave up for now; payload: error",
        "run.warning": "a hub: it goes on, with something to know; payload: message",
        "odd": "a hub: a document did not fit and was kept raw; payload: kind, reason",
    },
    METRICS: {},
    NODE: {},
}
