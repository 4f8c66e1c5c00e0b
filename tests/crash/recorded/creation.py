"""Several processes that make a store at one path, at one time: one has it, whole, and keeps it.

    python -m tests.crash.recorded.creation --rounds 100

Runs under the recorder, whose pauses put the steps of the others in between.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import jrnl
from tests.crash.recorded import recording
from tests.crash.recorded.recording import Recorder
from tests.model.places import MEMORY

CREATORS = 3
REFUSALS = ("StoreExists", "StoreLocked")


def create(room: Path, seed: int, number: int) -> None:
    """Make the store, write, flush, close; say what came of it. In a process of its own."""
    Recorder().begin(room / f"{number}.rec", room / "root", seed * 10 + number + 1, 4000)
    said = room / f"{number}.txt"
    try:
        store = jrnl.create(room / "root" / "s", size=65536, journal=16384, overlay=65536)
    except Exception as error:
        said.write_text(f"{type(error).__name__}: {error}")
        os._exit(0)
    store.volume.write(0, b"it is mine %d" % number)
    store.flush()
    said.write_text("made")
    store.close()
    os._exit(0)


def round_of(room: Path, seed: int) -> list[str]:
    """Return what went wrong."""
    shutil.rmtree(room, ignore_errors=True)
    (room / "root").mkdir(parents=True)
    children = []
    for number in range(CREATORS):
        child = os.fork()
        if child == 0:
            try:
                create(room, seed, number)
            finally:
                os._exit(9)
        children.append(child)
    wrong = [f"creator {number} ended with {status}" for number, child in enumerate(children)
             if (status := os.waitpid(child, 0)[1])]  # fmt: skip
    said = [(room / f"{number}.txt").read_text() for number in range(CREATORS)] if not wrong else []
    made = [number for number, text in enumerate(said) if text == "made"]
    wrong += [f"creator {number}: {text}" for number, text in enumerate(said)
              if number not in made and not text.startswith(REFUSALS)]  # fmt: skip
    if wrong or len(made) != 1:
        return [*wrong, *([] if len(made) == 1 else [f"{made} have made the store"])]
    try:
        with jrnl.open(room / "root" / "s", "r", overlay=65536) as store:
            if store.volume.read(0, 12) != b"it is mine %d" % made[0]:
                return ["what was flushed is not there"]
    except (jrnl.JrnlError, OSError) as error:
        return [f"what was made is gone: {error}"]
    left = [name for name in os.listdir(room / "root") if name != "s"]
    return [f"left behind: {left}"] if left else []


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    if recording.library() not in os.environ.get("LD_PRELOAD", ""):
        under = {**os.environ, "LD_PRELOAD": recording.preloaded()}
        command = [sys.executable, "-m", "tests.crash.recorded.creation", *sys.argv[1:]]
        return subprocess.run(command, env=under, check=False).returncode
    room = Path(tempfile.mkdtemp(prefix="jrnl-creation-", dir=MEMORY))
    failed, began = 0, time.monotonic()
    for seed in range(args.seed, args.seed + args.rounds):
        for problem in round_of(room, seed):
            failed += 1
            print(f"round {seed}: {problem}")
    shutil.rmtree(room)
    print(f"{args.rounds} rounds, {failed} failures, {time.monotonic() - began:.0f} s")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
