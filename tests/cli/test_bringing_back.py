"""Commands that bring a store back from its archive: restored, followed, drilled, verified."""

from __future__ import annotations

import json
import os
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
def archived(run, path, folder):
    """An archive of the store, of its states 8 to 11: a snapshot, and entries that follow."""
    assert run("archive", path, folder / "archive", "--once").code == 0
    with jrnl.open(path) as store:
        store.volume.write(0, b"then")
        store.mark("then")
        store.volume.write(0, b"late")
    assert run("archive", path, folder / "archive", "--once").code == 0
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


def content(path):
    with jrnl.open(path, "r") as store:
        return {name: volume.read(0, volume.size) for name, volume in store.volumes.items()}


def test_a_state_is_restored_from_it(run, path, archived, folder):
    made = run("restore-from", archived, folder / "new.jrnl", "--json").json
    assert (made["state"], made["window"]) == (11, {"oldest": 8, "newest": 11})
    assert content(folder / "new.jrnl") == content(path)
    said = run("restore-from", archived, folder / "old.jrnl", "--at", "then").out
    assert "state 10" in said
    assert run("info", folder / "old.jrnl", "--json").json["seq"] == 10
    with jrnl.open(path, "r") as store, store.view("then") as then:
        assert content(folder / "old.jrnl") == {"data": then.read(0, 1 << 20)}


def test_a_dry_run_says_what_would_be_restored_and_makes_nothing(run, archived, folder):
    told = run("restore-from", archived, folder / "new.jrnl", "--dry-run", "--json").json
    assert (told["state"], told["volumes"]) == (11, {"data": 1 << 20})
    assert 0 < told["bytes"] < 1 << 20
    assert "would make" in run("restore-from", archived, folder / "new.jrnl", "-n").out
    assert not (folder / "new.jrnl").exists()


def test_a_drill_runs_the_check_on_the_restored_volume_and_leaves_a_record(run, archived, folder):
    check = "python3 -c 'import sys; print(open(sys.argv[1], \"rb\").read(4))' {}"
    done = run("drill", archived, "--at", "then", "--check", check, "--scratch", folder,
               "--record", folder / "drill.json")  # fmt: skip
    assert done.code == 0, done
    assert "the drill has passed" in done.out
    record = json.loads((folder / "drill.json").read_text())
    assert (record["ok"], record["state"], record["exit_code"]) == (True, 10, 0)
    assert (record["url"], record["at"], record["epoch"]) == (str(archived), "then", 2)
    assert record["output"] == "b'then'"
    assert record["problems"] == []
    assert {*record["seconds"]} == {"restore", "verify", "check", "remove"}
    assert record["volumes"] == {"data": 1 << 20}
    assert sorted(os.listdir(folder)) == ["archive", "disk.jrnl", "drill.json"]


def test_a_check_that_fails_fails_the_drill(run, archived, folder):
    done = run("drill", archived, "--check", "sh -c 'echo no; exit 3' {}", "--json")
    assert done.code == 1
    assert (done.json["ok"], done.json["exit_code"], done.json["output"]) == (False, 3, "no")
    done = run("drill", archived, "--check", "sh -c 'sleep 60' {}", "--timeout", "0.1")
    assert done.code == 1
    assert "too slow" in done.out


def test_a_drill_on_a_damaged_archive_fails_and_says_which_object(run, archived, folder):
    [table] = (archived / "snap").iterdir()
    table.write_bytes(table.read_bytes()[:-1])
    done = run("drill", archived, "--json", "--scratch", folder)
    assert done.code == 1
    assert table.name in done.json["error"]
    assert done.json["state"] is None
    assert sorted(os.listdir(folder)) == ["archive", "disk.jrnl"]


def test_an_archive_is_verified(run, path, archived):
    assert "all is well" in run("archive-verify", archived).out
    assert run("archive-verify", archived, "--json").json["ok"]
    [table] = (archived / "snap").iterdir()
    table.unlink()
    done = run("archive-verify", archived)
    assert done.code == 1
    assert table.name in done.out


def test_a_standby_follows_until_a_signal_and_goes_on_where_it_was(run, path, archived, folder):
    standby = folder / "standby.jrnl"
    with running("follow", archived, standby) as process:
        assert process.said == f"following {archived}, state 11\n"
    run("mark", path, "more")
    run("archive", path, archived, "--once")
    with running("follow", archived, standby, "--json", "--poll", "50ms") as process:
        row = json.loads(process.said)
        assert row["seq"] == row["archived"] == 13
        run("mark", path, "still more")
        run("archive", path, archived, "--once")
        end = time.monotonic() + 20
        while row["seq"] < 15 and time.monotonic() < end:
            row = json.loads(process.stdout.readline())
    assert (row["seq"], row["lag"], row["problem"]) == (15, 0.0, None)
    assert content(standby) == content(path)


def test_a_standby_is_promoted_and_the_writer_is_stopped(run, path, archived, folder):
    same = content(path)
    standby = folder / "standby.jrnl"
    with running("archive", path, archived, code=1) as process:
        promoted = run("follow", archived, standby, "--promote", "--json").json
        assert promoted["seq"] == 11
        run("mark", path, "late")
        process.wait(60)
    assert "another writer" in process.complained
    assert content(standby) == same
    done = run("archive", standby, archived, "--once", "--json").json  # it goes on there
    assert (done["seq"], done["epoch"]) == (11, 5)
    assert "Take another address" in run("archive", path, archived, "--once").line


def test_a_record_is_not_written_into_the_archive(run, archived):
    done = run("drill", archived, "--record", archived / "drill.json")
    assert "another place" in done.line
    assert not (archived / "drill.json").exists()


MISTAKES = [
    (("restore-from", "{folder}/nix", "{folder}/new"), 1, "no archive"),
    (("restore-from", "{url}", "{path}"), 1, "already"),
    (("restore-from", "{url}", "{url}/new"), 1, "another place"),
    (("restore-from", "{url}", "{folder}/new", "--at", "nix"), 1, "'then'"),
    (("restore-from", "{url}", "{folder}/new", "--at", "99"), 1, "newest is 11"),
    (("drill", "{url}", "--check", "true"), 1, "{{}}"),
    (("drill", "{url}", "--check", "'"), 1, "cannot be split"),
    (("drill", "{url}", "--scratch", "{folder}/nix"), 1, "a folder that is there"),
    (("archive-verify", "{folder}/nix"), 1, "no archive"),
    (("follow", "{folder}/nix", "{folder}/new"), 1, "no archive"),
    (("follow", "{url}", "{url}/new"), 1, "another place"),
    (("follow", "{url}", "{folder}/new", "--poll", "soon"), 2, "500ms"),
]


@pytest.mark.parametrize(("words", "code", "told"), MISTAKES, ids=lambda each: repr(each)[:60])
def test_a_mistake_gives_one_line(run, path, archived, folder, words, code, told):
    places = {"path": path, "folder": folder, "url": archived}
    done = run(*(word.format(**places) for word in words))
    assert told.format() in done.line
    assert done.code == code
    assert not (folder / "new").exists()


@pytest.mark.parametrize(
    "words", [("restore-from", "{url}", "{path}-new"), ("follow", "{url}", "{path}-new"),
              ("drill", "{url}"), ("archive-verify", "{url}")], ids=lambda words: words[0],
)  # fmt: skip
def test_without_the_packages_one_line_says_what_to_install(path, archived, words):
    program = (
        "import sys; sys.modules.update(obstore=None, zstandard=None);"
        "from jrnl.cli import main; sys.exit(main(sys.argv[1:]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, *(word.format(path=path, url=archived) for word in words)],
        capture_output=True, text=True, timeout=60, cwd=ROOT, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "pip install 'jrnl-engine[archive]'" in done.stderr
