"""Thousands of random, mutated and senseless calls to the whole daemon: it answers and goes on."""

import os
import random
from collections import Counter
from pathlib import Path
from typing import Any

import msgspec
import psutil
import trio
from trio.testing import MockClock

from modelkeep.zmtp import Dealer, TimedOut
from modelkeep_protocol import codec, envelope, errors, methods, schema
from tests.daemon.house import House, open_house
from tests.daemon.picks import ordinary
from tests.hubsim import open_hubsim

SEED = int(os.environ.get("FRAMES_SEED", "1"))
FRAMES = int(os.environ.get("FRAMES", "3000"))
BATCH = 150
# of silence: what was asked has been answered
QUIET_S = 0.1

TEXTS = (
    "", " ", "x", "civitai", "civitai:3000000", "civitai:3000000@1#2", "sha256:" + "ab" * 32,
    "sha256:zz", "urn:air:sdxl:lora:civitai:1@2", "https://civitai.com/models/3000000", "hf:a/b",
    "../../../etc/passwd", "/nonexistent/models", "relative/models", "/nonexistent/a\x00b",
    "~nobody-at-all/models", "/" + "d/" * 1500, "\x00", "a\x00b",
    "\u202e\x1b[2J",
    "名" * 150, "🔥", "x" * 199, "y" * 4096, "tag:", 'tag:"', "((((((", "a OR", "NOT", "-", "-a -b",
    "downloads:>", "downloads:>99999999999999999999999", "nsfw:<=x", "size:<2ZB",
    "updated:>2026-99-99",
    "base:\"SDXL", "type:lora " * 200, "*", "?", "%_'\"; DROP TABLE model; --", "[[:alpha:]]+",
    "relevance", "name", "downloads", "queued", "failed", "transfer", "library", "tags", "comfyui",
    "e1:5", ":", "abc:18446744073709551616", "deadbeef:-1",
)  # fmt: skip
NUMBERS = (0, 1, -1, 2, 20, 1000, 1001, 2**31, 2**53, 2**53 + 1, 2**63 - 1, -(2**63))
WRONG: tuple[Any, ...] = (
    None, True, 1.5, float("inf"), float("nan"), b"\xff\xfe", [], {}, [[]], {"a": {"b": []}},
    [None],
    ["x"] * 50, "text", 7,
)  # fmt: skip


class Chance(random.Random):
    """Chance, and the references that exist."""

    refs: tuple[str, ...] = ()


def _value(hint: msgspec.inspect.Type, chance: Chance) -> Any:
    if chance.random() < 0.06:
        return chance.choice(WRONG)
    match hint:
        case msgspec.inspect.StrType():
            return chance.choice(chance.refs if chance.random() < 0.2 else TEXTS)
        case msgspec.inspect.IntType():
            return chance.choice(NUMBERS if chance.random() < 0.2 else (0, 1, 1, 20, 100))
        case msgspec.inspect.BoolType():
            return chance.random() < 0.5
        case msgspec.inspect.ListType():
            return [_value(hint.item_type, chance) for _ in range(chance.choice((0, 1, 1, 3, 40)))]
        case _:
            return chance.choice(WRONG)


def _params(method: schema.Method, chance: Chance) -> dict[str, Any]:
    described = msgspec.inspect.type_info(method.params)
    assert isinstance(described, msgspec.inspect.StructType)
    params = {
        field.encode_name: _value(field.type, chance)
        for field in described.fields
        if chance.random() < 0.75
    }
    if params.get("wait_ms"):
        params["wait_ms"] = chance.choice((1, 5, 10**9))
    if chance.random() < 0.1:
        params[chance.choice(("extra", "", "💥"))] = chance.choice(WRONG)
    return params


# it would end the daemon, which is what it is for
_METHODS = [method for name, method in schema.METHODS.items() if name != methods.DAEMON_STOP]


def _call(call_id: int, chance: Chance) -> bytes:
    method = chance.choice(_METHODS)
    return codec.pack(envelope.call(call_id, method.name, _params(method, chance), 20_000))


def _odd_message(call_id: int, chance: Chance) -> bytes:
    name = chance.choice(("", "daemon", "daemon.pong", "DAEMON.PING", "a" * 300, "../x", "\x00"))
    message: dict[str, Any] = envelope.call(call_id, name, {})
    message |= chance.choice(
        (
            {}, {"v": 99}, {"v": None}, {"v": "1"}, {"id": -1}, {"id": 2**60}, {"id": "x"},
            {"id": None}, {"p": []}, {"p": None}, {"m": 5}, {"m": None}, {"t": "nonsense"},
            {"t": None}, {"deadline_ms": 0}, {"deadline_ms": -5}, {"deadline_ms": 2**70},
            {"t": "cancel"}, {"t": "credit", "n": -1}, {"t": "credit", "n": 10**6}, {"t": "hello"},
            {"t": "reply", "r": {}}, {"t": "pong"},
        )
    )  # fmt: skip
    try:
        return codec.pack(message)
    except Exception:  # our own codec refuses to write some of it
        return chance.randbytes(40)


def _mutated(call_id: int, chance: Chance) -> bytes:
    frame = bytearray(_call(call_id, chance)[:4096])
    for _ in range(chance.choice((1, 1, 2, 8))):
        place = chance.randrange(len(frame))
        match chance.randrange(4):
            case 0:
                frame[place] = chance.randrange(256)
            case 1:
                frame[place] ^= 1 << chance.randrange(8)
            case 2:
                del frame[place : place + chance.randrange(1, 9)]
                frame += b"\x80"
            case _:
                frame[place:place] = chance.randbytes(chance.randrange(1, 9))
    return b"" if methods.DAEMON_STOP.encode() in frame else bytes(frame)


def _nested(depth: int) -> bytes:
    return b"\x81\xa1p" + b"\x91" * depth + b"\xc0"


def _frame(number: int, chance: Chance) -> bytes:
    kind = chance.random()
    if kind < 0.45:
        return _call(number, chance)
    if kind < 0.70:
        return _mutated(number, chance)
    if kind < 0.85:
        return _odd_message(number, chance)
    if kind < 0.97:
        return chance.randbytes(chance.choice((0, 1, 2, 9, 100, 3000)))
    return _nested(chance.choice((10, 17, 1000, 100_000)))


def _send_all(house: House, first: int, chance: Chance, seen: "Counter[str]") -> None:
    """One batch on a connection of its own; the ping after it must be answered."""
    dealer = Dealer(house.paths.socket, deadline_s=20, max_message_bytes=codec.MAX_REPLY_BYTES)
    before = seen["pong"]
    try:
        for number in range(first, first + BATCH):
            dealer.send(_frame(number, chance), deadline_s=20)
        dealer.send(codec.pack({"t": "ping"}), deadline_s=20)
        while True:
            try:
                deadline_s = QUIET_S if seen["pong"] > before else 20
                answer = codec.unpack_trusted(dealer.receive(deadline_s=deadline_s))
            except TimedOut:
                assert seen["pong"] > before, "the ping was not answered"
                return
            seen[answer["t"]] += 1
            if answer["t"] == "error":
                assert answer["code"] in errors.CODES, answer
                assert answer["message"], answer
                assert "Traceback" not in answer["message"], answer
                seen[answer["code"]] += 1
    finally:
        dealer.close()


async def test_nothing_a_client_sends_harms_the_daemon(
    tmp_path: Path, fast_time: MockClock
) -> None:
    chance = Chance(SEED)
    seen = Counter[str]()
    async with (
        open_hubsim(models=60) as hub,
        open_house(tmp_path / "home", hub) as house,
    ):
        await house.synced()
        chance.refs = tuple(pick.ref for pick, _ in zip(ordinary(hub), range(5), strict=False))
        process = psutil.Process()
        sizes = []
        for first in range(1, FRAMES, BATCH):
            await trio.to_thread.run_sync(_send_all, house, first, chance, seen)
            if first % (BATCH * 10) == 1:
                assert (await house.call("daemon.ping")).at_ms
                sizes.append(process.memory_info().rss)
        # most were understood well enough to be refused by name; many were answered
        assert seen["invalid"] > FRAMES * 0.1
        assert seen["reply"] > FRAMES * 0.05
        assert seen["internal"] == 0, seen
        assert sizes[-1] - sizes[0] < 100 << 20, sizes
        status = await house.call("daemon.status")
        assert set(status.daemon.services.values()) == {"running"}
        # no folder was added, and only what may be downloaded was
        faults = house.rows(
            "SELECT error_code, error_message FROM job WHERE error_code = 'internal'"
        )
        assert faults == []
        owned = {Path(path).name for (path,) in house.rows("SELECT path FROM library_file")}
        assert {Path(name).name for name in house.files()} <= owned
        assert len((await house.call("library.roots")).items) <= 1
        assert not Path("/nonexistent").exists()  # noqa: ASYNC240
