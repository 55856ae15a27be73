"""Odd things in a watched folder, and files that are moved about: a real daemon sees them all."""

import os
import socket
import urllib.request
from collections import Counter
from pathlib import Path
from typing import Any

from tests.process.living import LivingDaemon, hub_process, living_daemon

NO_HUB = "http://127.0.0.1:9"
EMPTY = b"\x02\0\0\0\0\0\0\0{}"


def _events(daemon: LivingDaemon, *kinds: str) -> list[dict[str, Any]]:
    epoch = daemon.call("daemon.status")["daemon"]["epoch"]
    page = daemon.call("events.read", since=f"{epoch}:0", topics=["library"], limit=1000)
    return [event for event in page["events"] if not kinds or event["kind"] in kinds]


def _listed(daemon: LivingDaemon) -> dict[str, dict[str, Any]]:
    return {item["path"]: item for item in daemon.call("library.list", limit=1000)["items"]}


def test_a_zoo_in_a_watched_folder_harms_nothing(tmp_path: Path) -> None:
    home = tmp_path / "home"
    root = home / "models"
    root.mkdir(parents=True)
    (root / "loop").symlink_to(root)
    (root / "deep").mkdir()
    (root / "deep/up").symlink_to("..")
    (root / "broken.safetensors").symlink_to("nowhere")
    (root / "outside.safetensors").symlink_to("/etc/passwd")
    os.mkfifo(root / "fifo.safetensors")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(root / "s.ckpt"))
    odd = os.fsencode(root) + b"/\xff\xfe caf\xe9.safetensors"
    Path(os.fsdecode(odd)).write_bytes(EMPTY + b" ")
    with (root / "a-10-TB.safetensors").open("wb") as sparse:
        sparse.truncate(10 << 40)
    (root / "closed").mkdir(mode=0o000)
    (root / ("n" * 243 + ".safetensors")).write_bytes(EMPTY + b"  ")
    (root / "new\nline\x1b[2J.safetensors").write_bytes(EMPTY + b"   ")
    (root / "empty.safetensors").touch()
    (root / "good.safetensors").write_bytes(EMPTY)
    try:
        with living_daemon(home, NO_HUB, settings=["[sync]", "auto = false"]) as daemon:
            daemon.call("library.scan")

            def hashed() -> bool:
                known = _listed(daemon)
                others = [item for path, item in known.items() if "10-TB" not in path]
                return len(others) >= 5 and all(item["sha256"] for item in others)

            daemon.until(hashed, "everything but the giant is hashed")
            known = _listed(daemon)
            names = {Path(path).name for path in known}
            assert "good.safetensors" in names
            assert not names & {"fifo.safetensors", "s.ckpt", "broken.safetensors", "up"}
            assert not any("passwd" in path or "outside" in path for path in known)
            assert not any("/loop/" in path for path in known)
            # whoever reads it gets text, whatever the bytes were
            assert all(path.encode() for path in known)
            skipped = daemon.call("library.scan")["items"][0]["skipped"]
            assert skipped["link"] >= 3
            assert skipped["special file"] >= 2
            # and a newcomer is seen while the giant is there
            (root / "later.safetensors").write_bytes(EMPTY + b"    ")
            daemon.until(
                lambda: (_listed(daemon).get(str(root / "later.safetensors")) or {}).get("sha256"),
                "a newcomer is hashed",
            )
            status = daemon.call("daemon.status")
            assert set(status["daemon"]["services"].values()) == {"running"}
            assert daemon.stop() == 0
            # names from outside can not forge lines or colors
            text = daemon.log.read_text(errors="surrogateescape")
            assert "\x1b" not in text
            assert "Traceback" not in text
    finally:
        (root / "closed").chmod(0o700)


def test_a_file_that_is_dropped_moved_and_renamed_keeps_what_it_is(tmp_path: Path) -> None:
    home = tmp_path / "home"
    with (
        hub_process("--models", "60") as hub,
        living_daemon(home, hub.url) as daemon,
    ):
        daemon.synced()
        daemon.until(lambda: daemon.call("daemon.status")["catalog"]["indexed"], "indexed")
        item, file = next(
            (item, file)
            for item in daemon.call("catalog.search", query="type:lora", limit=50)["items"]
            for file in daemon.call("catalog.show", ref=item["ref"])["versions"][0]["files"]
            if file["primary"] and file["name"].endswith(".safetensors") and file["sha256"]
        )
        version, _, file_id = file["ref"].rpartition("@")[2].partition("#")
        request = urllib.request.Request(
            f"{hub.url}/api/download/models/{version}?fileId={file_id}",
            headers={"User-Agent": "somebody's browser"},
        )
        with urllib.request.urlopen(request) as answer:
            content = answer.read()
        asked_before = len(hub.control("log"))
        first = daemon.models / "dropped.safetensors"
        first.write_bytes(content)

        def at(path: Path) -> dict[str, Any] | None:
            found = _listed(daemon).get(str(path))
            return found if found and found["state"] == "present" and found["sha256"] else None

        known = daemon.until(lambda: at(first), "the dropped file is known")
        assert (known["sha256"], known["ref"]) == (file["sha256"], file["ref"])
        daemon.until(
            lambda: daemon.call("catalog.show", ref=item["ref"])["owned"], "the model is owned"
        )
        # no request was needed for that
        assert len(hub.control("log")) == asked_before
        identified = _events(daemon, "file.identified")
        assert [event["subject"] for event in identified] == [str(first)]

        places = [
            daemon.models / "loras/sub/renamed 名前.safetensors",
            daemon.models / "checkpoints/renamed 名前.safetensors",
            daemon.models / "x.safetensors",
        ]
        for place in places:
            place.parent.mkdir(parents=True, exist_ok=True)
            first.rename(place)
            moved = daemon.until(lambda path=place: at(path), f"it is known at {place}")
            assert (moved["sha256"], moved["ref"]) == (file["sha256"], file["ref"])
            assert len(_listed(daemon)) == 1
            first = place
        kinds = Counter(event["kind"] for event in _events(daemon))
        assert kinds["file.moved"] == len(places)
        # neither read nor identified anew
        assert kinds["file.identified"] == 1
        assert kinds["file.added"] == 1
        assert kinds["file.gone"] == 0

        # moved while nobody looked: known at the next start, and again not read anew
        assert daemon.stop() == 0
        last = daemon.models / "loras/while away.safetensors"
        first.rename(last)
        daemon.start()
        daemon.until(lambda: at(last), "it is known where it is now")
        kinds = Counter(event["kind"] for event in _events(daemon))
        assert kinds["file.moved"] == len(places) + 1
        assert kinds["file.identified"] == 1
        last.unlink()
        daemon.until(
            lambda: not daemon.call("catalog.show", ref=item["ref"])["owned"], "it is gone"
        )
        assert daemon.stop() == 0
