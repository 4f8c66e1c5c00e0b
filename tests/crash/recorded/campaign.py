"""Lives of real threads, recorded; the crashes that this allows; lives that go on from them.

    python -m tests.crash.recorded.campaign --states 20000 --jobs 2      what CI runs
    python -m tests.crash.recorded.campaign --seconds 3600 --jobs 2      as long as you like
    python -m tests.crash.recorded.campaign --replay FOLDER              one failure again

A chain begins with a fresh store. Its life is recorded, states that a crash may leave at some of
its records are made on tmpfs, opened by the shipping code and held against the history; from one
of them the next life goes on, up to five deep. Some stores are damaged, looked at, and live on.
A failure keeps the recordings of its chain, and prints the command that replays it.
"""

from __future__ import annotations

import argparse
import faulthandler
import json
import os
import re
import selectors
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

from tests.crash.recorded import recording
from tests.crash.recorded.disk import Disk
from tests.model.places import MEMORY


class Worker:
    """A process under the recorder, that lives one chain after the other."""

    def __init__(self, keep: Path, deaf: str = "") -> None:
        self.room = Path(tempfile.mkdtemp(prefix="jrnl-lives-", dir=MEMORY))
        self.keep = keep
        errors = self.room / "worker-stderr"
        self.errors: IO[str] = errors.open("w+")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.crash.recorded.campaign", "--work", str(self.room),
             "--keep", str(keep), "--deaf", deaf],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.errors, text=True,
            env={**os.environ, "LD_PRELOAD": recording.preloaded()},
        )  # fmt: skip

    def give(self, seed: int) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{seed}\n")
        self.process.stdin.flush()

    def answer(self) -> dict[str, Any] | None:
        """Return what came of a chain; None where the process has died."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        return json.loads(line) if line else None

    def died(self) -> str:
        """Say what it was at, and keep that."""
        status = self.process.wait()
        at = (self.room / "status").read_text()
        seed, _, what = at.split(" ", 2)
        self.errors.seek(0)
        said = self.errors.read()[-3000:]
        state = json.loads(what) if what.startswith("{") else None
        text = f"the process has ended with {status} at {what}: {said}"
        return keep_failure(self.room, self.keep, int(seed), text, state)

    def end(self) -> None:
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                with suppress(BrokenPipeError):
                    pipe.close()
        self.process.kill()
        self.process.wait()
        self.errors.close()
        shutil.rmtree(self.room, ignore_errors=True)


def keep_failure(room: Path, keep: Path, seed: int, text: str, state: Any) -> str:
    """Keep the recordings of a failure; return what to say of it."""
    keep.mkdir(exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f"seed-{seed}-", dir=keep))
    shutil.copy(room / "chain.json", folder)
    for log in room.glob("life-*.rec"):
        shutil.copy(log, folder)
    (folder / "failure.json").write_text(json.dumps({"text": text, "state": state}))
    deaf = f" --deaf {Disk.deaf}" if Disk.deaf else ""
    return f"{text}\n    python -m tests.crash.recorded.campaign --replay {folder}{deaf}"


def work(room: Path, keep: Path) -> int:
    """Live the chains whose seeds come in; in a process under the recorder."""
    from jrnl import snapshot_copier
    from tests.crash.recorded.chain import Chain, Result

    snapshot_copier.automatic = True
    faulthandler.register(signal.SIGALRM, chain=True)  # what hangs says where, and ends
    for line in sys.stdin:
        result, seed = Result(), int(line)
        for log in room.glob("life-*.rec"):
            log.unlink()
        Chain(seed, room, result).run()
        kinds: dict[str, tuple[str, Any]] = {}
        for text, state in result.failures:
            kinds.setdefault(re.sub(r"\d+", "N", text.split("\n")[0]), (text, state))
        failures = [
            keep_failure(room, keep, seed, text, state and asdict(state))
            for text, state in list(kinds.values())[:3]
        ]
        print(json.dumps({"seed": seed, "counts": result.counts, "distinct": len(result.seen),
                          "failures": failures}), flush=True)  # fmt: skip
    return 0


class Campaign:
    """Chains by several workers, until it is enough."""

    def __init__(
        self, states: int, seconds: float, jobs: int, seed: int, keep: Path, deaf: str = ""
    ) -> None:
        self.states, self.seconds, self.seed, self.keep = states, seconds, seed, keep
        self.deaf = deaf
        self.workers = [Worker(keep, deaf) for _ in range(jobs)]
        self.counts: Counter[str] = Counter()
        self.failures: list[str] = []

    def run(self, most: int) -> None:
        began = time.monotonic()
        with selectors.DefaultSelector() as ready:
            for worker in self.workers:
                ready.register(worker.process.stdout, selectors.EVENT_READ, worker)
                self._give(worker)
            while (self.counts["distinct states"] < self.states
                   or time.monotonic() - began < self.seconds):  # fmt: skip
                for key, _ in ready.select():
                    self._took(key.data, ready)
                if len(self.failures) >= most:
                    break
        self.counts["seconds"] = round(time.monotonic() - began)
        for worker in self.workers:
            worker.end()

    def _give(self, worker: Worker) -> None:
        worker.give(self.seed)
        self.seed += 1

    def _took(self, worker: Worker, ready: Any) -> None:
        answer = worker.answer()
        if answer is None:
            self.failures.append(worker.died())
            print(self.failures[-1], flush=True)
            ready.unregister(worker.process.stdout)
            worker.end()
            self.workers.remove(worker)
            worker = Worker(self.keep, self.deaf)
            self.workers.append(worker)
            ready.register(worker.process.stdout, 1, worker)
        else:
            self.counts.update(answer["counts"])
            self.counts["distinct states"] += answer["distinct"]
            self.failures += answer["failures"]
            for failure in answer["failures"]:
                print(failure, flush=True)
        self._give(worker)


def replayed(folder: Path, deaf: str = "") -> int:
    """Look at a failure again."""
    code = ("import sys, tempfile; from pathlib import Path\n"
            "from tests.crash.recorded import chain\n"
            "chain.Disk.deaf = sys.argv[2]\n"
            "room = Path(tempfile.mkdtemp()); found = chain.replay(Path(sys.argv[1]), room)\n"
            "print('\\n'.join(found) or 'nothing is wrong'); sys.exit(bool(found))")  # fmt: skip
    return subprocess.run([sys.executable, "-c", code, str(folder), deaf], check=False).returncode


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--states", type=int, default=0, help="distinct states that are enough")
    parser.add_argument("--seconds", type=float, default=0, help="go on for so long")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--failures", type=int, default=10, help="give up after so many")
    parser.add_argument("--keep", type=Path, default=Path("crash-failures"))
    parser.add_argument("--replay", type=Path, help="a folder of a kept failure")
    parser.add_argument("--deaf", default="", help="syncs of this file do nothing: it must be seen")
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.replay is not None:
        return replayed(args.replay, args.deaf)
    if args.work is not None:
        Disk.deaf = args.deaf
        return work(args.work, args.keep)
    campaign = Campaign(args.states, args.seconds, args.jobs, args.seed, args.keep,
                        args.deaf)  # fmt: skip
    campaign.run(args.failures)
    print(json.dumps(dict(sorted(campaign.counts.items())), indent=2))
    print(f"{campaign.counts['distinct states']:,} distinct crash states of recorded lives, "
          f"{len(campaign.failures)} failures")  # fmt: skip
    return 1 if campaign.failures else 0


if __name__ == "__main__":
    sys.exit(main())
