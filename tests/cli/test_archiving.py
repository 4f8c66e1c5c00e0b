"""`jrnlctl archive`, and `serve --archive`: followed, ended, told of."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager

import pytest

import jrnl
from tests.model.places import ROOT

pytest.importorskip("obstore")
pytest.importorskip("zstandard")

PROGRAM = [sys.executable, "-m", "jrnl"]


@pytest.fixture
def url(folder):
    return folder / "archive"


@contextmanager
def running(*words, code=0, stop=signal.SIGTERM):
    """The command in the background, from its first line on; a signal ends it."""
    process = subprocess.Popen(
        [*PROGRAM, *map(str, words)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        cwd=ROOT,
    )  # fmt: skip
    try:
        process.said = process.stdout.readline()
        yield process
        if process.poll() is None:
            process.send_signal(stop)
        process.rest, process.complained = process.communicate(timeout=60)
        assert process.returncode == code, process.complained
        assert "Traceback" not in process.complained
    finally:
        process.kill()
        process.wait()


def until(holds, seconds=20):
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_once_archives_what_there_is_and_ends(run, anyhow, url):
    done = run("archive", anyhow, url, "--once", "--json").json
    assert (done["url"], done["seq"], done["epoch"]) == (str(url), 8, 1)
    run("mark", anyhow, "more")
    assert "up to state 10" in run("archive", anyhow, url, "--once").out
    done = run("archive", anyhow, url, "--once", "--collect", "--grace", "0", "--json").json
    assert done["collected"]["manifests"] > 0
    assert run("info", anyhow, "--json").json["archive"] is None


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_it_follows_until_a_signal_and_other_commands_work_meanwhile(run, path, url, stop):
    with running("archive", path, url, stop=stop) as process:
        assert process.said == f"archived at {url}, up to state 8\n"
        assert run("mark", path, "meanwhile").code == 0
        until(lambda: run("info", path, "--json").json["archive"]["seq"] == 10)
        assert f"{url}, state 10" in run("info", path).out
    assert not process.complained
    assert not (path / "control.sock").exists()


def test_what_a_serving_process_has_is_archived_for_as_long_as_the_command_runs(run, path, url):
    with jrnl.open(path) as store, jrnl.control.ControlServer(store):
        with running("archive", path, url, "--json") as process:
            assert json.loads(process.said)["seq"] in (-1, 8)
            store.volume.write(0, b"served")
            store.flush()
            until(lambda: store.archiving.archived_seq == store.seq)
        assert json.loads(process.rest.splitlines()[-1])["seq"] == store.seq
        until(lambda: store.archiving is None)


def test_a_store_is_archived_while_it_is_served(run, path, url, folder):
    with running("serve", path, "--unix", folder / "sock", "--archive", url,
                 "--lag-at-most", "60s") as process:  # fmt: skip
        assert process.said.endswith(f", archived at {url}\n")
        run("mark", path, "served")
        done = run("archive", path, url, "--once", "--json").json  # the same archive goes on
        assert (done["seq"], done["epoch"]) == (10, 1)
        assert "archived already" in run("archive", path, f"{url}-2", "--once").line
        assert run("info", path, "--json").json["archive"]["seq"] == 10


@contextmanager
def copied(path, folder):
    """A copy of the store's folder, as another machine would have it that was cloned."""
    shutil.copytree(path, folder / "copy.jrnl", ignore=lambda *_: ["control.sock"])
    with jrnl.open(folder / "copy.jrnl") as store:
        yield store


def test_another_writer_stops_it(run, path, url, folder):
    with running("archive", path, url, code=1) as process:
        with copied(path, folder) as store:
            store.archive(url).close()
        run("mark", path, "late")
        process.wait(60)
    assert "another writer" in process.complained
    assert process.complained.count("\n") == 1


MISTAKES = [
    (("archive", "{path}", ""), 2, "bucket"),
    (("archive", "{path}", "ftp://host/x"), 1, "s3://bucket"),
    (("archive", "{path}", "s3://key:secret@bucket/x"), 1, "environment"),
    (("archive", "{path}", "{path}/inside"), 1, "in the store itself"),
    (("archive", "{folder}/nix", "{folder}/a"), 1, "jrnlctl create"),
    (("archive", "{folder}/nix", "{folder}/a", "--once"), 1, "jrnlctl create"),
    (("archive", "{path}", "{folder}/a", "--collect"), 2, "--once"),
    (("archive", "{path}", "{folder}/a", "--keep", "a month"), 2, "30d"),
    (("serve", "{path}", "--lag-at-most", "5s"), 2, "--archive"),
    (("serve", "--memory", "1MiB", "--archive", "{folder}/a"), 1, "on disk"),
]


@pytest.mark.parametrize(("words", "code", "told"), MISTAKES, ids=lambda each: repr(each)[:60])
def test_a_mistake_gives_one_line(run, path, folder, words, code, told):
    places = {"path": path, "folder": folder}
    done = run(*(word.format(**places) for word in words))
    assert told.format() in done.line
    assert done.code == code


@pytest.mark.parametrize(
    "words", [("archive", "{path}", "{url}"), ("serve", "{path}", "--archive", "{url}")],
    ids=lambda words: words[0],
)  # fmt: skip
def test_without_the_packages_one_line_says_what_to_install(path, url, words):
    program = (
        "import sys; sys.modules.update(obstore=None, zstandard=None);"
        "from jrnl.cli import main; sys.exit(main(sys.argv[1:]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, *(word.format(path=path, url=url) for word in words)],
        capture_output=True, text=True, timeout=60, cwd=ROOT, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "pip install 'jrnl-engine[archive]'" in done.stderr


def test_credentials_are_never_said(run, path, monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAFAMOUS")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "verysecretwords")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    done = run("archive", path, "s3://user:hidden@bucket/x", "--once")
    assert done.code == 1
    for secret in ("AKIAFAMOUS", "verysecretwords", "hidden"):
        assert secret not in done.err + done.out
