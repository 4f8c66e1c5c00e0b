"""Run the suite, keep its JSON, print the tables: `python -m bench` in the project's directory."""

import argparse
import json
import os
import pathlib
import subprocess
import sys

from jrnl import _core

from . import tables

HERE = pathlib.Path(__file__).parent
ROOT = HERE.parent
RESULTS = HERE / "results"

# What --forced runs once for each kernel, with the libc's own memcpy and with another.
WRITES = (HERE / "test_write.py", HERE / "test_write_from_c.py")
TUNED = {"GLIBC_TUNABLES": "glibc.cpu.x86_rep_movsb_threshold=100000000"}


def arguments():
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description="Measure jrnl against its yardsticks and print the tables. "
        "JRNL_BENCH_SMALL=1 in the environment: tiny sizes, a smoke test.",
    )
    parser.add_argument("-k", metavar="EXPRESSION", help="only these cases, as pytest's -k")
    parser.add_argument(
        "--seconds", metavar="N", help="how long the store on disk is watched; default: 8"
    )
    parser.add_argument("--compare", metavar="JSON", help="an earlier run; default: the last one")
    parser.add_argument(
        "--forced",
        action="store_true",
        help="only the write rows, again with each kernel forced, and with another memcpy",
    )
    parser.add_argument("--no-run", action="store_true", help="only print the last run's tables")
    parser.add_argument(
        "--update-docs",
        action="store_true",
        help="run --forced, too, and write all into docs/benchmarks.md, and a few into README.md",
    )
    return parser.parse_args()


def run(options, output, files=(HERE,), environment=os.environ):
    """pytest in a process of its own, so that the memory of the cases is gone after it."""
    if options.seconds:
        environment = environment | {"JRNL_BENCH_SECONDS": options.seconds}
    command = [sys.executable, "-m", "pytest", *map(str, files), "-q", "-o", "addopts="]
    command += ["-W", "default", "--benchmark-only", "--benchmark-quiet"]
    command += [f"--benchmark-json={output}"]
    command += ["-k", options.k] if options.k else []
    return subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode


def load(path):
    return json.loads(path.read_text()) if path.exists() and path.stat().st_size else None


def is_whole(options):
    return options.no_run or (not options.k and os.environ.get("JRNL_BENCH_SMALL") != "1")


def measure(options):
    """Run and return pytest's exit code and the file with the results.

    A whole run becomes latest.json, the one before it previous.json; any other leaves both alone.
    """
    latest, previous = RESULTS / "latest.json", RESULTS / "previous.json"
    if options.no_run:
        return 0, latest
    RESULTS.mkdir(exist_ok=True)
    output = RESULTS / "partial.json"
    output.unlink(missing_ok=True)
    code = run(options, output)
    if is_whole(options) and code == 0:
        if latest.exists():
            latest.replace(previous)
        return code, output.replace(latest)
    return code, output


def forced_runs(options, runnable=True):
    """(file, environment) of each: all kernels, those of another machine too if not `runnable`."""
    start = "forced" if is_whole(options) else "partial-forced"
    plain = {name: value for name, value in os.environ.items() if name not in TUNED}
    for kernel in _core._kernel_names(runnable):
        forced = plain | {"JRNL_KERNEL": kernel}
        yield RESULTS / f"{start}-{kernel}.json", forced
        yield RESULTS / f"{start}-{kernel}-tuned.json", forced | TUNED


def measure_forced(options):
    """Run the write rows with each kernel forced; the first exit code that is not 0."""
    if options.no_run:
        return 0
    RESULTS.mkdir(exist_ok=True)
    for output, _ in forced_runs(options, runnable=False):
        output.unlink(missing_ok=True)
    codes = [run(options, output, WRITES, forced) for output, forced in forced_runs(options)]
    return next(filter(None, codes), 0)


def load_forced(options):
    return list(filter(None, (load(output) for output, _ in forced_runs(options, runnable=False))))


def update(name, text):
    page = ROOT / name
    try:
        page.write_text(tables.put_between_markers(page.read_text(), text))
    except (FileNotFoundError, ValueError) as error:
        return f"{name} not updated: {error}"
    return f"{name} updated"


def main():
    options = arguments()
    if options.forced and not options.update_docs:
        code = measure_forced(options)
        forced = load_forced(options)
        print("\n" + tables.render_forced(forced) if forced else f"no results in {RESULTS}")
        return code
    code, path = measure(options)
    results = load(path)
    if not results:
        print(f"no results in {path}")
        return code or 1
    before = RESULTS / ("previous.json" if path.name == "latest.json" else "latest.json")
    earlier = load(pathlib.Path(options.compare) if options.compare else before)
    print("\n" + tables.render(results, earlier))
    if options.update_docs:
        code = measure_forced(options) or code
        forced = load_forced(options)
        print("\n" + tables.render_forced(forced) if forced else "no forced runs")
        print("\n" + update("docs/benchmarks.md", tables.render(results, forced=forced)))
        print(update("README.md", tables.render_headlines(results, forced)))
    return code


if __name__ == "__main__":
    sys.exit(main())
