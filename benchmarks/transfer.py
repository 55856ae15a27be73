"""One large file over https against aria2c: ``python -m benchmarks.transfer [--size small|full]``.

Ours is the whole way of a job in a warm process, as in the daemon: queue, resolve, download,
sha256, sync, scan, place, database. Theirs is ``aria2c -x8 --checksum``, told to preallocate
cheaply. Both get the same file from the same local server (nginx, or a small one of our own where
that is missing) into memory-backed disk when there is one; rounds are interleaved, medians
reported. CPU is user and system time of the client alone; an interpreter's start is not counted,
because a daemon is already running.
"""

import argparse
import hashlib
import json
import os
import resource
import shutil
import socket
import ssl
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import trio

from modelkeepd.library import layout, records
from modelkeepd.scan.scanner import scan_file
from modelkeepd.store import open_store
from modelkeepd.transfer.fetch import open_fetcher
from modelkeepd.transfer.jobs import Job
from modelkeepd.transfer.ports import Ports, SourcePlan, TransferSettings
from modelkeepd.transfer.service import TransferService
from modelkeepd.transfer.states import FINAL, State
from modelkeepd.transfer.wanted import WantedFile
from tests.fakes.certificates import Certificates, make_certificates

SIZES = {"small": (256 << 20, 5), "full": (2 << 30, 3)}
GOALS = {"wall": 0.8, "cpu": 0.95}
NAME = "model.safetensors"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.transfer", description=__doc__)
    parser.add_argument("--size", choices=SIZES, default="small")
    parser.add_argument("--ours", nargs=4, metavar=("HOME", "URL", "SHA256", "CA"), help="a child")
    options = parser.parse_args()
    if options.ours:
        print(json.dumps(trio.run(get_once, *options.ours)))
        return 0
    size_bytes, rounds = SIZES[options.size]
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(
        prefix="mk-transfer-", dir=memory if os.access(memory, os.W_OK) else None
    ) as home:
        print(json.dumps(compare(Path(home), size_bytes, rounds)))
    return 0


def compare(home: Path, size_bytes: int, rounds: int) -> list[dict[str, object]]:
    served = home / "served"
    served.mkdir()
    digest = make_file(served / NAME, size_bytes)
    certificates = make_certificates(home, "localhost")
    ours: list[Mapping[str, float]] = []
    theirs: list[Mapping[str, float]] = []
    aria2c = shutil.which("aria2c")
    with serving(home, served, certificates) as (server, url):
        for number in range(rounds + 1):
            ours.append(run_ours(home / f"ours{number}", url, digest, certificates))
            if aria2c is not None:
                folder = home / f"theirs{number}"
                theirs.append(run_aria2c(aria2c, folder, url, digest, certificates))
    # The first round warms the server's and the machine's caches.
    ours, theirs = ours[1:], theirs[1:]
    workload = f"{size_bytes >> 20} MiB https from {server}, sha256 verified, one file"
    reports = []
    for what, goal in GOALS.items():
        mine = statistics.median(one[what] for one in ours)
        peer = statistics.median(one[what] for one in theirs) if theirs else None
        ratio = None if peer is None else round(mine / peer, 3)
        reports.append(
            {
                "name": f"transfer.{what}",
                "workload": workload,
                "ours": round(mine, 3),
                "theirs": None if peer is None else round(peer, 3),
                "peer": "aria2c -x8 --checksum" if theirs else "aria2c is not installed",
                "unit": "s",
                "ratio": ratio,
                "goal": goal,
                "met": ratio is not None and ratio <= goal,
            }
        )
    peak = {"name": "transfer.memory", "workload": workload, "unit": "MiB", "goal": None}
    peak |= {"ours": max(one["peak_mib"] for one in ours), "ratio": None, "met": None}
    peak |= {"theirs": max((one["peak_mib"] for one in theirs), default=None)}
    return [*reports, peak]


def make_file(path: Path, size_bytes: int) -> str:
    """A sound safetensors file; returns its sha256."""
    data_bytes = size_bytes - 8 - 256
    tensor = {"dtype": "U8", "shape": [data_bytes], "data_offsets": [0, data_bytes]}
    head = json.dumps({"w": tensor}).encode().ljust(256)
    digest = hashlib.sha256()
    noise = os.urandom(8 << 20)
    with path.open("wb") as handle:
        for piece in (len(head).to_bytes(8, "little"), head):
            handle.write(piece)
            digest.update(piece)
        while data_bytes > 0:
            piece = noise[: min(len(noise), data_bytes)]
            handle.write(piece)
            digest.update(piece)
            data_bytes -= len(piece)
    return digest.hexdigest()


# The two sides ---------------------------------------------------------------------------------


def run_ours(home: Path, url: str, digest: str, certificates: Certificates) -> Mapping[str, float]:
    command = [sys.executable, "-m", "benchmarks.transfer", "--ours", str(home), url, digest]
    done = subprocess.run(
        [*command, str(certificates.authority)], check=True, capture_output=True, text=True
    )
    shutil.rmtree(home)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


async def get_once(home_text: str, url: str, digest: str, authority: str) -> dict[str, float]:
    home = Path(home_text)
    root = home / "models"
    root.mkdir(parents=True)

    async def resolve(_job: Job) -> SourcePlan:
        return SourcePlan(url=url, home=url)

    ports = Ports(
        resolve=resolve,
        scan=scan_file,
        expect=records.expect,
        adopt=records.adopt,
        owned_path=records.owned_path,
        folder_for=layout.folder_for,
        detect_layout=layout.detect_layout,
    )
    settings = TransferSettings(root=root, layout="comfyui", reserve_bytes=0)
    async with (
        open_store(home / "modelkeep.db") as store,
        open_fetcher(ca_file=authority, environ={}) as fetcher,
        trio.open_nursery() as nursery,
    ):
        service = TransferService(store, fetcher, settings, ports)
        await nursery.start(lambda task_status: service.run(task_status=task_status))
        wanted = WantedFile(
            hub="local", ref="local:1", name=NAME, sha256=bytes.fromhex(digest), model_type="LORA"
        )
        cpu, wall = time.process_time(), time.perf_counter()
        [answer] = await service.enqueue([wanted])
        job = answer.job
        seq = 0
        while job is None or job.state not in FINAL:
            seq = await store.feed.changed(seq)
            [job] = await service.get([answer.job.job_id if answer.job else 0])
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        if job.state is not State.DONE:
            raise SystemExit(f"the download failed: {job.error_message}")
        nursery.cancel_scope.cancel()
    return {"wall": wall, "cpu": cpu, "peak_mib": peak_mib(resource.RUSAGE_SELF)}


def peak_mib(who: int) -> float:
    scale = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(who).ru_maxrss * scale // (1 << 20)


def run_aria2c(
    program: str, folder: Path, url: str, digest: str, certificates: Certificates
) -> Mapping[str, float]:
    command = [program, "-x8", "-s8", "-k1M", "--file-allocation=falloc", "--no-conf", "-q"]
    command += [f"--checksum=sha-256={digest}", f"--ca-certificate={certificates.authority}"]
    wall = time.perf_counter()
    process = subprocess.Popen([*command, "-d", str(folder), "-o", NAME, url])
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.perf_counter() - wall
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"aria2c failed with {process.returncode}")
    shutil.rmtree(folder)
    peak = usage.ru_maxrss // 1024
    return {"wall": wall, "cpu": usage.ru_utime + usage.ru_stime, "peak_mib": peak}


# The server ------------------------------------------------------------------------------------


@contextmanager
def serving(home: Path, folder: Path, certificates: Certificates) -> Iterator[tuple[str, str]]:
    """A name for the report and the file's URL."""
    nginx = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")
    if nginx is None:
        with serving_by_python(folder, certificates) as port:
            yield "a small Python server", f"https://localhost:{port}/{NAME}"
        return
    port = free_port()
    config = home / "nginx.conf"
    config.write_text(
        f"""
        pid {home}/nginx.pid; error_log {home}/error.log; daemon off; worker_processes 2;
        events {{ worker_connections 256; }}
        http {{
            access_log off; sendfile on; default_type application/octet-stream;
            client_body_temp_path {home}/t1; proxy_temp_path {home}/t2;
            fastcgi_temp_path {home}/t3; uwsgi_temp_path {home}/t4; scgi_temp_path {home}/t5;
            server {{
                listen 127.0.0.1:{port} ssl; root {folder};
                ssl_certificate {certificates.certificate};
                ssl_certificate_key {certificates.key};
            }}
        }}
        """,
        encoding="utf-8",
    )
    # Run by root, its workers would otherwise be another user who may not read the folder.
    user = ["-g", "user root;"] if os.geteuid() == 0 else []
    command = [nginx, "-c", str(config), "-p", str(home), "-e", str(home / "error.log")]
    process = subprocess.Popen([*command, *user])
    try:
        wait_for_port(port, process)
        yield "nginx", f"https://localhost:{port}/{NAME}"
    finally:
        process.terminate()
        process.wait()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def wait_for_port(port: int, process: "subprocess.Popen[bytes]") -> None:
    while process.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.02)
    raise SystemExit("nginx did not start")


@contextmanager
def serving_by_python(folder: Path, certificates: Certificates) -> Iterator[int]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            size = (folder / NAME).stat().st_size
            wanted = self.headers.get("Range", "")
            first_text, _, last_text = wanted.removeprefix("bytes=").partition("-")
            first, last = int(first_text or 0), int(last_text or size - 1)
            self.send_response(206 if wanted else 200)
            if wanted:
                self.send_header("Content-Range", f"bytes {first}-{last}/{size}")
            self.send_header("Content-Length", str(last - first + 1))
            self.send_header("Content-Type", "application/octet-stream")
            self.end_headers()
            with (folder / NAME).open("rb") as handle:
                handle.seek(first)
                left = last - first + 1
                while left > 0:
                    piece = handle.read(min(left, 1 << 18))
                    self.wfile.write(piece)
                    left -= len(piece)

        def log_message(self, format: str, *args: object) -> None:
            pass

    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificates.certificate, certificates.key)
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


if __name__ == "__main__":
    sys.exit(main())
