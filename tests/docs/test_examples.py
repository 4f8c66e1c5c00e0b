"""Every example compiles, runs and does what it says."""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.model.places import ROOT

EXAMPLES = ROOT / "examples"


def environment(**changes: str) -> dict[str, str]:
    """This process's, LD_PRELOAD and all, so that what is imported is the same jrnl."""
    variables = {**os.environ, **changes}
    if paths := os.environ.get("PYTHONPATH"):
        variables["PYTHONPATH"] = os.pathsep.join(map(os.path.abspath, paths.split(os.pathsep)))
    return variables


def run(*arguments: object, cwd: Path, **changes: str) -> str:
    done = subprocess.run(
        [sys.executable, *map(str, arguments)],
        cwd=cwd,
        env=environment(**changes),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, f"{arguments}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def compiler() -> str:
    """What builds an extension: not under the sanitizers that the tests may run under."""
    name = os.environ.get("CC", "gcc")
    if shutil.which(name.split()[0]) is None:
        if os.environ.get("CI") == "true":
            pytest.fail(f"there is no compiler {name!r}, which the examples need")
        pytest.skip(f"there is no compiler {name!r}")
    return f"env -u LD_PRELOAD {name}"


FLAGS = {"embed_c": "-O1 -Wall -Wextra -Werror", "embed_cython": "-O1"}


def test_an_embedded_engine_makes_its_trials_without_python_in_c_as_in_cython(compiler, tmp_path):
    rounds, outputs = 2000, set()
    for name, flags in FLAGS.items():
        folder = tmp_path / name
        shutil.copytree(EXAMPLES / name, folder)
        run("setup.py", "-q", "build_ext", "--inplace", cwd=folder, CC=compiler, CFLAGS=flags)
        outputs.add(run("-c", f"import trials; print(trials.run({rounds}))", cwd=folder))
    (output,) = outputs
    figures = ast.literal_eval(output)
    # A trial writes 16 blocks, all different; each rewind after the first drops a REWIND as well.
    assert figures["bytes"] == rounds * 16 * 4096
    assert figures["dropped"] == rounds * 16 + rounds - 1
    assert figures["window"] == (0, 64 + rounds * 17)


def test_a_bad_day_is_undone():
    lines = run("-W", "error", EXAMPLES / "undo_a_bad_day.py", cwd=EXAMPLES).splitlines()
    shown = {line.split()[0]: line.split(None, 1)[1] for line in lines}
    order = "morning noon bad plan view recover restore undo worse again savepoint rewind evening"
    assert list(shown) == order.split()
    for step in ("morning", "noon", "view", "restore", "again", "savepoint", "evening"):
        assert "100,000" in shown[step]
    assert "100,000" not in shown["bad"]
    assert shown["worse"] == "0"


SHOWN = {
    "diff_and_history": "changed changed history history stats repaired",
    "digest_bisect": "end bisected good bad",
    "reset_between_tests": "test_that_writes test_that_wipes_and_dies test_that_writes_too_much "
    * 2
    + "afterwards",
    "crash_test_a_log": "unchecked lost checked recovered",
    "going_back": "newest exact misled sb_icount Maximum stayed",
    "crash_safe_store": "killed reopened recovered",
    "keep_and_fold": "pinned unpinned folded by",
    "one_of_several": "plan log restored differs",
    "scrub_both_ways": "good to",
    "try_and_throw_away": "half wipe mend thrown kept",
    "plot_a_trace": "wrote " * 3 + "hottest",
    "three_machines": "killed promoted refused taken fenced read",
    "retire_a_day": "day " * 6 + "today day diff restored day",
}


WRITTEN = {"plot_a_trace": "timeline.png timeline.svg timeline.html"}  # where it is run
NEEDED = {"going_back": ("xfs_repair", "xfsprogs")}  # a tool, and the Debian package that has it


@pytest.mark.parametrize("name", SHOWN)
def test_an_example_runs_to_its_end_and_holds_what_it_asserts(name, tmp_path):
    if name == "three_machines":
        pytest.importorskip("obstore")
    tool, package = NEEDED.get(name, ("sh", ""))
    if shutil.which(tool) is None and shutil.which(tool, path="/usr/sbin:/sbin") is None:
        if os.environ.get("CI"):
            pytest.fail(f"needs the Debian package {package}")
        pytest.skip(f"needs the Debian package {package}")
    lines = run("-W", "error", EXAMPLES / f"{name}.py", cwd=tmp_path).splitlines()
    assert [line.split()[0] for line in lines] == SHOWN[name].split()
    assert {path.name for path in tmp_path.iterdir()} == set(WRITTEN.get(name, "").split())


def test_every_example_has_a_test():
    names = {path.name for path in EXAMPLES.iterdir() if path.name != "__pycache__"}
    assert names == {"embed_c", "embed_cython", "undo_a_bad_day.py"} | {f"{n}.py" for n in SHOWN}
