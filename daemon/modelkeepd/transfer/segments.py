"""Which bytes of a part file are there, and the small file that remembers it.

Two sets are kept. *Written* bytes survive a killed process but not a power cut; *durable* ones
were synced. After a start on the same boot the first set counts, after a reboot only the second.
The map file has two slots written in turn, each with a checksum: a torn write costs one
generation, never the map.
"""

import json
import os
import zlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from modelkeepd.transfer.response import Validator

SLOT_BYTES = 8192
_MAGIC = b"mkmap1\n"
Range = tuple[int, int]


def add_range(ranges: Sequence[Range], start: int, end: int) -> list[Range]:
    """The sorted, merged ranges with ``[start, end)`` added."""
    if start >= end:
        return list(ranges)
    merged: list[Range] = []
    for low, high in ranges:
        if high < start or low > end:
            merged.append((low, high))
        else:
            start, end = min(start, low), max(end, high)
    merged.append((start, end))
    return sorted(merged)


def clip(ranges: Sequence[Range], end: int) -> list[Range]:
    """What of the ranges lies before ``end``."""
    return [(low, min(high, end)) for low, high in ranges if low < end]


def frontier(ranges: Sequence[Range]) -> int:
    """How far the bytes reach without a gap from the start."""
    return ranges[0][1] if ranges and ranges[0][0] == 0 else 0


@dataclass(slots=True)
class SegmentMap:
    """The content of a map file."""

    validator: Validator | None = None
    total_bytes: int | None = None
    written: list[Range] = field(default_factory=list)
    durable: list[Range] = field(default_factory=list)
    boot: str = ""
    generation: int = 0

    def encode(self) -> bytes:
        body = json.dumps(
            {
                "validator": asdict(self.validator) if self.validator else None,
                "total_bytes": self.total_bytes,
                "written": self.written,
                "durable": self.durable,
                "boot": self.boot,
                "generation": self.generation,
            },
            separators=(",", ":"),
        ).encode()
        slot = _MAGIC + zlib.crc32(body).to_bytes(4, "big") + len(body).to_bytes(4, "big") + body
        if len(slot) > SLOT_BYTES:
            raise ValueError("a segment map must fit its slot")
        return slot.ljust(SLOT_BYTES, b"\0")


def decode_slot(slot: bytes) -> SegmentMap | None:
    """None for anything that is not a whole, sound slot."""
    head = len(_MAGIC)
    if not slot.startswith(_MAGIC) or len(slot) < head + 8:
        return None
    length = int.from_bytes(slot[head + 4 : head + 8], "big")
    body = slot[head + 8 : head + 8 + length]
    if len(body) != length or zlib.crc32(body) != int.from_bytes(slot[head : head + 4], "big"):
        return None
    try:
        raw = json.loads(body)
        return SegmentMap(
            validator=Validator(**raw["validator"]) if raw["validator"] else None,
            total_bytes=raw["total_bytes"],
            written=_ranges(raw["written"]),
            durable=_ranges(raw["durable"]),
            boot=raw["boot"],
            generation=raw["generation"],
        )
    except (ValueError, KeyError, TypeError):
        return None


def _ranges(raw: Sequence[Sequence[int]]) -> list[Range]:
    ranges: list[Range] = []
    for low, high in raw:
        ranges = add_range(ranges, int(low), int(high))
    return ranges


def read_map(fd: int) -> SegmentMap:
    """The newest sound slot, or an empty map."""
    slots = [decode_slot(os.pread(fd, SLOT_BYTES, SLOT_BYTES * turn)) for turn in (0, 1)]
    sound = [slot for slot in slots if slot is not None]
    return max(sound, key=lambda slot: slot.generation) if sound else SegmentMap()


def write_map(fd: int, state: SegmentMap) -> None:
    """Into the slot whose turn it is."""
    state.generation += 1
    slot = state.encode()
    at = SLOT_BYTES * (state.generation % 2)
    while slot:
        done = os.pwrite(fd, slot, at)
        slot, at = slot[done:], at + done


def boot_id() -> str:
    """Names this boot of the machine; empty where the system does not tell (then nothing that
    was not synced is trusted)."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""
