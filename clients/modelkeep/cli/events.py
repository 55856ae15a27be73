"""``modelkeep events``: follow the event log, over restarts of the daemon too."""

from __future__ import annotations

import time

from modelkeep.cli import text
from modelkeep.cli.parse import UsageError
from modelkeep.cli.spec import COUNT, FLAG, MANY, TEXT, Command, Option
from modelkeep.connect import Connection, NoDaemon
from modelkeep_protocol import errors, methods
from modelkeep_protocol.events import TOPICS

TYPE_CHECKING = False  # see modelkeep_protocol.errors
if TYPE_CHECKING:
    from typing import Any

    from modelkeep.cli.output import Output

# one question waits so long for an event; then it is asked again
WAIT_MS = 25_000
PAGE = 500
_FIRST_PAUSE_S = 0.2
_LONGEST_PAUSE_S = 5.0


class _Follower:
    """Where we are in the log, and what was printed."""

    def __init__(self, args: dict[str, Any], out: Output) -> None:
        self.out = out
        self.cursor: str = args["since"] or ""
        self.topics: list[str] = args["topic"]
        self.left: int | None = args["limit"]
        self.follows = not args["no_follow"]

    def run(self) -> None:
        """Print until the limit, the end of the log, or for good."""
        daemon: Connection | None = Connection()
        pause_s = _FIRST_PAUSE_S
        try:
            while self.left != 0:
                try:
                    if daemon is None:
                        daemon = Connection()
                        self.out.note("the daemon is back")
                        pause_s = _FIRST_PAUSE_S
                    if not self._read(daemon):
                        return
                except NoDaemon as exc:
                    if not self.follows:
                        raise
                    if daemon is not None:
                        daemon.close()
                        daemon = None
                        self.out.note(f"{exc.lines[0]}; waiting for it to come back")
                    time.sleep(pause_s)
                    pause_s = min(pause_s * 2, _LONGEST_PAUSE_S)
        finally:
            if daemon is not None:
                daemon.close()

    def _read(self, daemon: Connection) -> bool:
        """One page; False when there is nothing left to wait for."""
        # without a cursor the answer only tells where the log ends now
        wait_ms = WAIT_MS if self.follows and self.cursor else 0
        limit = PAGE if self.left is None else min(self.left, PAGE)
        page = daemon.call(
            methods.EVENTS_READ,
            {
                "since": self.cursor,
                "topics": self.topics,
                "limit": limit,
                "wait_ms": wait_ms,
            },
            deadline_s=wait_ms / 1000 + 30,
        )
        if page["fresh"]:
            self._fresh(page["cursor"])
        for event in page["events"]:
            self._print(event)
        self.out.stdout.flush()
        if self.left is not None:
            self.left -= len(page["events"])
        is_further = page["cursor"] != self.cursor
        self.cursor = page["cursor"]
        return self.follows or (bool(page["events"]) and is_further)

    def _fresh(self, cursor: str) -> None:
        if self.out.json:
            self.out.json_line({"fresh": True, "cursor": cursor})
        else:
            self.out.warn("events were missed for good; look again at what you show")

    def _print(self, event: dict[str, Any]) -> None:
        out = self.out
        if out.json:
            out.json_line(event)
        elif out.quiet:
            out.fields(event["cursor"])
        elif not out.is_terminal:
            out.fields(
                text.stamp(event["at_ms"]), event["cursor"], event["topic"], event["kind"],
                event["subject"], *_payload(event),
            )  # fmt: skip
        else:
            what = f"{event['topic']}/{event['kind']}"
            out.line(
                f"{out.style(text.moment(event['at_ms'])[11:], 'dim')}  "
                f"{out.style(text.pad(text.safe(what), 24), 'cyan')}  "
                f"{text.safe(event['subject'])}  {text.safe('  '.join(_payload(event)))}".rstrip()
            )


def _payload(event: dict[str, Any]) -> list[str]:
    return [f"{name}={_value(value)}" for name, value in event["payload"].items()]


def _value(value: Any) -> str:
    if isinstance(value, dict):
        return str(value.get("message") or " ".join(f"{k}:{v}" for k, v in value.items()))
    return str(value)


def run(args: dict[str, Any], out: Output) -> int:
    """Follow."""
    for topic in args["topic"]:
        if topic not in TOPICS:
            raise UsageError(f"there is no topic {topic!r}", f"topics: {', '.join(TOPICS)}")
    if args["no_follow"] and not args["since"]:
        raise UsageError(
            "--no-follow needs --since: what comes after now is not there yet",
            "a cursor is in each event with --json",
        )
    follower = _Follower(args, out)
    try:
        follower.run()
    except KeyboardInterrupt:
        if follower.cursor:
            out.note(f"go on from here: modelkeep events --since {follower.cursor}")
        return errors.EXIT_INTERRUPTED
    return errors.EXIT_OK


VERBS = {
    "events": {
        "": Command(
            "events",
            "follow what happens",
            run,
            examples=(
                ("modelkeep events", "everything, from now on"),
                ("modelkeep events --topic library --topic transfer", "two topics"),
                ("modelkeep events --since CURSOR --json", "what came after, for a script"),
            ),
            options=(
                Option(("--since",), TEXT, "begin after this cursor (now)", metavar="CURSOR"),
                Option(
                    ("--topic",), MANY, "only this topic; may be repeated",
                    metavar="TOPIC", choices=tuple(TOPICS),
                ),
                Option(("--limit",), COUNT, "end after so many", metavar="N"),
                Option(("--no-follow",), FLAG, "end when there are no more"),
            ),
            about=(
                "Goes on by itself after a restart of the daemon. When events were missed for "
                "good, a JSON line {\"fresh\": true} or a warning says so."
            ),
        )
    }
}  # fmt: skip
