"""A user's mistake gives one line, a code, and no traceback."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import warnings

import pytest

import jrnl
from tests.model.places import DATA

LOG = DATA / "ext4-docs.log.xz"
MISTAKES = [
    (("foo",), 2, "foo"),
    (("info",), 2, "PATH"),
    (("info", "{folder}/nix"), 1, "create"),
    (("info", "{folder}"), 1, "no store"),
    (("info", "{path}/log"), 1, "no store"),
    (("create", "{path}", "--size", "1MiB"), 1, "already"),
    (("create", "{folder}/new"), 2, "--size"),
    (("create", "{folder}/new", "--size", "3XB"), 2, "64MiB"),
    (("create", "{folder}/new", "--size", "1MiB", "--journal", "1"), 1, "16KiB"),
    (("create", "{folder}/new", "--size", "1MiB", "--images", "before"), 2, "both"),
    (("create", "{folder}/new", "--volume", "data"), 2, "NAME=SIZE"),
    (("create", "{folder}/new", "--volume", "a=1KiB", "--volume", "a=2KiB"), 2, "of its own"),
    (("mark", "{path}", "good", "--unpin"), 1, "no pinned mark"),
    (("mark", "{path}", "good", "--unpin", "--pin"), 2, "--unpin"),
    (("create", "{folder}/new", "--volume", "a=1KiB", "--from", "b=/dev/null"), 1, "'b'"),
    (("create", "{folder}/new", "--from", "{folder}/nix"), 1, "No such file"),
    (("plan", "{path}", "--to", "god"), 1, "did you mean 'good'?"),
    (("plan", "{path}", "--to", "nothing"), 1, "there is 'good', 'copy'"),
    (("plan", "{path}", "--to", "99"), 1, "newest is 8"),
    (("plan", "{path}", "--to", "-1"), 2, "plain digits"),
    (("plan", "{path}", "--to", "1e3"), 2, "plain digits"),
    (("plan", "{path}", "--to", "9" * 5000), 2, "plain digits"),
    (("plan", "{path}", "--to", "2020-01-01"), 1, "did not exist"),
    (("plan", "{path}", "--to", ""), 2, "a point is"),
    (("plan", "{path}", "--to", "8", "--base", "good"), 1, "snapshot"),
    (("diff", "{path}", "0"), 2, "B"),
    (("history", "{path}", "2MiB", "1"), 1, "1048576"),
    (("history", "{path}", "x", "1"), 2, "offset"),
    (("mark", "{path}", "good"), 1, "name of a mark"),
    (("mark", "{path}", "a/b"), 1, "'/'"),
    (("snapshot", "{path}", "nix", "--delete", "--yes"), 1, "there is 'copy'"),
    (("restore", "{path}", "--to", "good"), 1, "--yes"),
    (("rewind", "{path}", "--to", "good"), 1, "--yes"),
    (("again", "{path}"), 1, "--yes"),
    (("again", "{path}", "--yes"), 1, "no recovery"),
    (("again", "{path}", "7", "--yes"), 1, "7"),
    (("recover", "{path}", "--to", "good", "--out", "{folder}/a/b"), 1, "No such file"),
    (("export", "{path}", "{folder}/out", "--volume", "nix"), 1, "'nix'"),
    (("replay", "{path}", "{folder}/nix"), 1, "No such file"),
    (("replay", "{path}", "{path}/log"), 1, "magic"),
    (("crash", "{path}", "--check", "true"), 1, "{{}}"),
    (("crash", "{path}", "--check", "true {{nosuch}}"), 1, "there is {{data}} or {{}}"),
    (("crash", "{path}", "--check", "true {{nosuch}}", "--state", "8"), 1, "names no volume"),
    (("crash", "{path}", "--check", "true {{}}", "--size", "1MiB"), 2, "for a log"),
    (("crash", "{path}", "--check", "true {{}}", "--source", "{path}/log"), 2, "for a log"),
    (("crash", "{path}", "--check", "true {{}}", "--timeout", "0"), 2, "--timeout"),
    (("crash", "{path}", "--check", "'"), 2, "--check"),
    (("crash", "{path}", "--check", "test {{}}", "--state", "x"), 1, "'x'"),
    (("crash", "{path}", "--check", "/nowhere {{}}"), 1, "No such file"),
    (("crash", "{folder}/nix", "--check", "true {{}}"), 1, "nix"),
    (("log", "{path}", "--json", "--parquet", "{folder}/out"), 2, "ask for one"),
    (("plot", "{path}"), 2, "--html"),
    (("plot", "{path}", "-o", "{folder}/out.docx"), 1, ".svg"),
    (("plot", "{path}", "-o", "{path}/out.png"), 1, "store itself"),
    (
        ("plot", "{log}", "--html", "{folder}/o.html", "--from", str(1 << 64)),
        1,
        "there is no state",
    ),
    (("serve",), 2, "--memory"),
    (("serve", "{path}", "--memory", "1MiB"), 2, "--memory"),
    (("serve", "{path}", "--journal", "1MiB"), 2, "--journal"),
    (("serve", "{folder}/nix", "--port", "0"), 1, "No such file"),
    (("serve", "{path}", "--port", "70000"), 2, "65535"),
    (("serve", "{path}", "--unix", "{folder}/a/b"), 1, "{folder}/a/b': No such file"),
    (("serve", "{path}", "--host", "no host", "--port", "0"), 1, "not known"),
    (("files", "{path}@god", "ls"), 1, "did you mean 'good'"),
    (("files", "{path}@1e3", "ls"), 2, "plain digits"),
    (("files", "{path}@good", "ls"), 1, "no file system"),
    (("demo", "{folder}/nix"), 1, "No such file"),
]


@pytest.mark.parametrize(("words", "code", "said"), MISTAKES, ids=lambda value: str(value)[:60])
def test_a_mistake_gets_one_helpful_line(run, path, folder, words, code, said):
    before = sorted(os.listdir(folder))
    ran = run(*(word.format(path=path, folder=folder, log=LOG) for word in words))
    assert said.format(folder=folder) in ran.line
    assert ran.code == code
    assert sorted(os.listdir(folder)) == before


@pytest.mark.skipif(os.geteuid() != 0, reason="takes root, to be another user")
@pytest.mark.parametrize("words", [("info",), ("log",), ("crash", "--check", "true {}")])
def test_a_path_that_may_not_be_read_makes_a_command_all_the_same(path, folder, words):
    os.chmod(folder, 0o755)
    os.chmod(path, 0o700)
    as_nobody = (
        "import os, sys; from jrnl.cli import app, main; os.setgroups([]); os.setgid(65534);"
        "os.setuid(65534); sys.exit(main(sys.argv[1:]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", as_nobody, words[0], str(path), *words[1:]], text=True,
        capture_output=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "Permission denied" in done.stderr


@pytest.mark.parametrize(
    "words", [("export",), ("export", "--force"), ("export-log",), ("log", "--parquet")]
)
def test_a_disk_that_is_full_is_named_by_the_file(path, folder, words):
    (folder / "out").write_bytes(b"") if "--force" in words else None
    limited = """
import resource, signal, sys
from jrnl.cli import app, main
calling = sys.modules["jrnl.control.call"]
real = calling.open_store
def opened(*words):
    store = real(*words)  # which has files in memory
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
    return store
calling.open_store = opened
sys.exit(main(sys.argv[1:]))
"""
    line = [sys.executable, "-c", limited, words[0], str(path), *words[1:], str(folder / "out")]
    done = subprocess.run(line, text=True, capture_output=True, check=False)
    assert done.returncode == 1
    assert done.stderr == f"jrnlctl: {str(folder / 'out')!r}: File too large\n"


def test_a_store_that_another_process_has_open_is_said_to_be(run, path):
    with jrnl.open(path):
        assert "open already" in run("info", path).line


def test_a_name_that_rich_would_take_for_a_colour_is_shown_as_it_is(run, path):
    assert run("mark", path, "[red]x").out == "[red]x: state 9\n"


def command(*words, **more):
    return subprocess.Popen(
        [sys.executable, "-m", "jrnl", *map(str, words)], text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, **more,
    )  # fmt: skip


WITHOUT = """
import sys
import warnings
from importlib.abc import MetaPathFinder
class Absent(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("click", "rich", "rich_click", "matplotlib", "pyarrow"):
            raise ModuleNotFoundError(name, name=name)
sys.meta_path.insert(0, Absent())
from jrnl.cli import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.parametrize("words", [(), ("info", "x"), ("--help",), ("demo", "--help")])
def test_without_its_packages_it_says_what_to_install(words):
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT, *words], text=True, capture_output=True, check=False
    )
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "pip install 'jrnl-engine[cli]'" in done.stderr
    assert not done.stdout


@pytest.mark.parametrize("given", [(), (str(DATA / "ext4-docs.log.xz"),)])
def test_without_its_packages_the_demo_still_runs(given):
    words = [sys.executable, "-c", WITHOUT, "demo", *given]
    done = subprocess.run(words, text=True, capture_output=True, check=True)
    assert "rewind" in done.stdout


def test_a_reader_that_goes_away_is_no_error(path):
    read, write = os.pipe()
    os.close(read)
    with command("log", path, "--json") as done:
        assert "Traceback" not in done.communicate()[1]
    broken = subprocess.run(
        [sys.executable, "-m", "jrnl", "log", str(path)], stdout=write, stderr=subprocess.PIPE,
        text=True, check=False,
    )  # fmt: skip
    os.close(write)
    assert broken.returncode == 1
    assert not broken.stderr


@pytest.mark.parametrize(
    ("words", "code"),
    [(("restore", "--to", "good", "--yes"), 0), (("info",), 0), (("plan", "--to", "nix"), 1)],
)
def test_with_its_standard_streams_closed_it_does_its_work(run, path, words, code):
    name, *others = words
    line = [sys.executable, "-m", "jrnl", name, str(path), *others]
    for closed in (">&-", "<&- >&- 2>&-"):
        done = subprocess.run(
            ["sh", "-c", f'exec "$@" {closed}', "sh", *line], capture_output=True, text=True,
            check=False,
        )  # fmt: skip
        assert (done.returncode, done.stdout) == (code, "")
        assert done.stderr.count("\n") == (code if closed == ">&-" else 0)
    assert run("verify", path).code == 0
    assert len(run("info", path, "--json").json["recoveries"]) == (2 if name == "restore" else 0)


def test_what_an_opening_finds_wrong_is_not_mixed_into_what_a_command_says(path):
    with open(path / "index", "r+b") as file:
        file.write(b"damaged")
    with command("mark", path, "now") as process:
        assert process.communicate()[1] == ""


def test_it_leaves_logging_and_warnings_as_they_were(run, path, folder):
    logger = logging.getLogger("jrnl")
    before = list(logger.handlers), logger.level, warnings.showwarning
    assert run("serve", path, "-v", "--unix", folder / "a" / "b").code == 1
    assert (list(logger.handlers), logger.level, warnings.showwarning) == before


@pytest.mark.parametrize("more", ["--yes", "--dry-run"])
def test_a_store_that_keeps_no_before_images_is_restored_not_rewound(run, folder, more):
    path = folder / "after"
    assert run("create", path, "--size", "64KiB", "--images", "after").code == 0
    assert run("snapshot", path, "start").code == 0
    assert "use restore" in run("rewind", path, "--to", "start", more).line
    assert run("restore", path, "--to", "start", more).code == 0
