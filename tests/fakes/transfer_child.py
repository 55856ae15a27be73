"""A process that runs the transfer service until its jobs have ended: to be killed by tests.

``python -m tests.fakes.transfer_child HOME URL [COMMAND]``; fail-points come by the environment.
COMMAND is run once the first job waits for space, whose error is printed.
"""

import sys
from pathlib import Path

import trio

from modelkeepd.transfer.ports import SourcePlan
from modelkeepd.transfer.states import FINAL
from tests.fakes.transfers import open_bench


class _AllTheSame(dict[str, SourcePlan]):
    def __init__(self, url: str) -> None:
        super().__init__()
        self._plan = SourcePlan(url=url, home=url)

    def __missing__(self, key: str) -> SourcePlan:
        return self._plan


async def _main(home: str, url: str, command: str = "") -> None:
    async with open_bench(Path(home), plans=_AllTheSame(url)) as bench:
        page = await bench.service.list_jobs()
        for job in page.jobs:
            if command:
                job = await bench.reached(job.job_id, lambda job: job.wait_for == "space")
                print(job.error_code, job.needed_bytes, flush=True)
                await trio.run_process(["sh", "-c", command])
            job = await bench.reached(job.job_id, lambda job: job.state in FINAL)
            print(job.state, job.error_message, flush=True)


if __name__ == "__main__":
    trio.run(_main, *sys.argv[1:])
