"""Run the suite, keep its JSON, print the tables: `python -m bench` in the project's directory."""

import argparse
import json
import os
import pathlib
import subprocess
import sys

from . import tables

HERE = pathlib.Path(__file__).parent
ROOT = HERE.parent
RESULTS = HERE / "results"


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
    parser.add_argument("--no-run", action="store_true", help="only print the last run's tables")
    parser.add_argument(
        "--update-readme", action="store_true", help="write the tables into README.md"
    )
    return parser.parse_args()


def run(expression, output, seconds):
    """pytest in a process of its own, so that the memory of the cases is gone after it."""
    environment = os.environ | ({"JRNL_BENCH_SECONDS": seconds} if seconds else {})
    command = [sys.executable, "-m", "pytest", str(HERE), "-q", "-o", "addopts="]
    command += ["-W", "default", "--benchmark-only", "--benchmark-quiet"]
    command += [f"--benchmark-json={output}"]
    command += ["-k", expression] if expression else []
    return subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode


def load(path):
    return json.loads(path.read_text()) if path.exists() and path.stat().st_size else None


def measure(options):
    """Run and return pytest's exit code and the file with the results.

    A whole run becomes latest.json, the one before it previous.json; any other leaves both alone.
    """
    whole = not options.k and os.environ.get("JRNL_BENCH_SMALL") != "1"
    latest, previous = RESULTS / "latest.json", RESULTS / "previous.json"
    if options.no_run:
        return 0, latest
    RESULTS.mkdir(exist_ok=True)
    output = RESULTS / "partial.json"
    output.unlink(missing_ok=True)
    code = run(options.k, output, options.seconds)
    if whole and code == 0:
        if latest.exists():
            latest.replace(previous)
        return code, output.replace(latest)
    return code, output


def update_readme(text):
    readme = ROOT / "README.md"
    try:
        readme.write_text(tables.put_between_markers(readme.read_text(), text))
    except (FileNotFoundError, ValueError) as error:
        return f"README.md not updated: {error}"
    return "README.md updated"


def main():
    options = arguments()
    code, path = measure(options)
    results = load(path)
    if not results:
        print(f"no results in {path}")
        return code or 1
    before = RESULTS / ("previous.json" if path.name == "latest.json" else "latest.json")
    earlier = load(pathlib.Path(options.compare) if options.compare else before)
    print("\n" + tables.render(results, earlier))
    if options.update_readme:
        print("\n" + update_readme(tables.render(results)))
    return code


if __name__ == "__main__":
    sys.exit(main())
