"""The life of a job as a pure table.

Owns which state follows which, and what must be done then. Performs nothing: the service persists
the new state first and carries out the effects afterwards, and every effect is safe to repeat.

Invariants: a job in ``done`` has a verified (or, where no hash is known, first-seen) file in the
library; a part file never outlives ``done``, ``canceled`` or ``quarantined``; what a person
stopped starts again only by a person.
"""

from enum import StrEnum


class State(StrEnum):
    QUEUED = "queued"
    RESOLVING = "resolving"
    DOWNLOADING = "downloading"
    VERIFYING = "verifying"
    SCANNING = "scanning"
    PLACING = "placing"
    DONE = "done"
    WAITING = "waiting"
    PAUSED = "paused"
    FAILED = "failed"
    QUARANTINED = "quarantined"
    CANCELED = "canceled"


class Event(StrEnum):
    START = "start"  # a worker took it
    RESOLVED = "resolved"  # address, size and hash are known
    OWNED = "owned"  # the library has this content already
    FETCHED = "fetched"  # every byte is in the part file
    MATCHED = "matched"  # size and hash agree, the part is durable
    REPAIR = "repair"  # wrong content, first time
    CORRUPT = "corrupt"  # wrong content, and a repair would not help or did not
    PASSED = "passed"  # the scan allows it
    REFUSED = "refused"  # the scan, or the policy, does not
    PLACED = "placed"  # renamed, durable, in the library
    LATER = "later"  # trying again can help
    BROKEN = "broken"  # trying again cannot help
    WAKE = "wake"  # the time or the condition waited for has come
    RESTART = "restart"  # the daemon starts and finds a state that was running
    PAUSE = "pause"
    RESUME = "resume"
    CANCEL = "cancel"
    RETRY = "retry"


class Effect(StrEnum):
    RESOLVE = "resolve"
    DOWNLOAD = "download"
    VERIFY = "verify"
    SCAN = "scan"
    PLACE = "place"
    STOP_WORK = "stop_work"  # end the worker's task on this job
    DROP_PART = "drop_part"
    QUARANTINE_PART = "quarantine_part"
    SCHEDULE_WAKE = "schedule_wake"
    OFFER = "offer"  # tell idle workers that there is something to take


RUNNING = frozenset(
    [State.RESOLVING, State.DOWNLOADING, State.VERIFYING, State.SCANNING, State.PLACING]
)
FINAL = frozenset([State.DONE, State.FAILED, State.QUARANTINED, State.CANCELED])

Outcome = tuple[State, tuple[Effect, ...]]


def _table() -> dict[tuple[State, Event], Outcome]:
    table: dict[tuple[State, Event], Outcome] = {
        (State.QUEUED, Event.START): (State.RESOLVING, (Effect.RESOLVE,)),
        (State.QUEUED, Event.PAUSE): (State.PAUSED, ()),
        (State.QUEUED, Event.CANCEL): (State.CANCELED, (Effect.DROP_PART,)),
        (State.RESOLVING, Event.RESOLVED): (State.DOWNLOADING, (Effect.DOWNLOAD,)),
        (State.RESOLVING, Event.OWNED): (State.DONE, (Effect.DROP_PART,)),
        (State.DOWNLOADING, Event.FETCHED): (State.VERIFYING, (Effect.VERIFY,)),
        (State.VERIFYING, Event.MATCHED): (State.SCANNING, (Effect.SCAN,)),
        (State.VERIFYING, Event.REPAIR): (
            State.DOWNLOADING,
            (Effect.DROP_PART, Effect.DOWNLOAD),
        ),
        (State.VERIFYING, Event.CORRUPT): (State.FAILED, (Effect.DROP_PART,)),
        (State.SCANNING, Event.PASSED): (State.PLACING, (Effect.PLACE,)),
        (State.SCANNING, Event.REFUSED): (State.QUARANTINED, (Effect.QUARANTINE_PART,)),
        (State.PLACING, Event.PLACED): (State.DONE, ()),
        # Between rename and commit there is nothing to stop: the job ends a moment later.
        (State.PLACING, Event.PAUSE): (State.PLACING, ()),
        (State.PLACING, Event.CANCEL): (State.PLACING, ()),
        (State.WAITING, Event.WAKE): (State.QUEUED, (Effect.OFFER,)),
        (State.WAITING, Event.RETRY): (State.QUEUED, (Effect.OFFER,)),
        (State.WAITING, Event.PAUSE): (State.PAUSED, ()),
        (State.WAITING, Event.CANCEL): (State.CANCELED, (Effect.DROP_PART,)),
        (State.PAUSED, Event.RESUME): (State.QUEUED, (Effect.OFFER,)),
        (State.PAUSED, Event.CANCEL): (State.CANCELED, (Effect.DROP_PART,)),
        (State.FAILED, Event.RETRY): (State.QUEUED, (Effect.OFFER,)),
        (State.FAILED, Event.CANCEL): (State.CANCELED, (Effect.DROP_PART,)),
        (State.CANCELED, Event.RETRY): (State.QUEUED, (Effect.OFFER,)),
    }
    for state in RUNNING:
        table[state, Event.LATER] = (State.WAITING, (Effect.SCHEDULE_WAKE,))
        table[state, Event.BROKEN] = (State.FAILED, ())
        table[state, Event.RESTART] = (State.QUEUED, (Effect.OFFER,))
        table.setdefault((state, Event.PAUSE), (State.PAUSED, (Effect.STOP_WORK,)))
        table.setdefault(
            (state, Event.CANCEL), (State.CANCELED, (Effect.STOP_WORK, Effect.DROP_PART))
        )
    return table


TRANSITIONS = _table()


class Unreachable(Exception):
    """This event cannot happen to a job in this state."""


def step(state: State, event: Event) -> Outcome:
    """The next state and the effects; raises Unreachable for a pair outside the table."""
    try:
        return TRANSITIONS[state, event]
    except KeyError:
        raise Unreachable(f"a job that is {state} knows no {event}") from None


def after_restart(state: State) -> State:
    """The last safe state before this one: where a job stands when the daemon starts again."""
    return step(state, Event.RESTART)[0] if state in RUNNING else state


_RULES = """\
## What holds beside the table

- What a job was promised (commit, size, sha256 or git's hash) is in its row. When the hub itself
  says, before the bytes, that it has another content now, or that the commit or file is gone, the
  catalog's facts are fetched anew once within `downloading` and the part begins again. A file the
  catalog had no hash for takes the hub's own word as its promise.
- A failed job keeps what it had fetched for 30 days; then it is canceled, which removes it.
- Where a file goes is settled when it is queued: a linked type folder is followed then, into
  library roots only, and the row holds the real folder. No later step follows a link.
- A repository's file is wanted at its own place. Content that lies elsewhere in the library is
  copied from there and verified like bytes from the hub; any other file counts as owned.
""".splitlines()


def render_markdown() -> str:
    """The table for docs/transfer-states.md; a test holds the file to it."""
    order = {state: number for number, state in enumerate(State)}
    turn = {event: number for number, event in enumerate(Event)}
    lines = [
        "# Job states",
        "",
        "Generated from `modelkeepd/transfer/states.py` by `python -m modelkeepd.transfer.states`.",
        "A pair that is not listed cannot happen.",
        "",
        "| state | event | next | then |",
        "|---|---|---|---|",
    ]
    for (state, event), (following, effects) in sorted(
        TRANSITIONS.items(), key=lambda item: (order[item[0][0]], turn[item[0][1]])
    ):
        then = ", ".join(effect.replace("_", " ") for effect in effects) or "—"
        lines.append(f"| {state} | {event} | {following} | {then} |")
    finals = ", ".join(sorted(FINAL))
    lines += ["", f"Final until a person acts: {finals}.", "", *_RULES]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(render_markdown(), end="")
