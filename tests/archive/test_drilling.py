"""Drills: what is restored, held to a check, removed, and told of."""

from __future__ import annotations

import json
import os

import pytest

import jrnl


@pytest.fixture
def url(folder):
    """An archive of two volumes, one of a name that is no file's; a mark, and what came after."""
    with (
        jrnl.create(folder / "s", volumes={"root": "64KiB", "a b": "64KiB"}, journal="1MiB") as s,
        s.archive(folder / "archive") as archive,
    ):
        s["root"].write(0, b"good")
        s["a b"].write(10, b"good")
        s.mark("good")
        s["root"].write(0, b"bad!")
        archive.flush()
    return folder / "archive"


@pytest.fixture
def scratch(folder):
    made = folder / "scratch"
    made.mkdir()
    yield made
    assert os.listdir(made) == []  # whatever happened


def is_good(store):
    return store["root"].read(0, 4) == store["a b"].read(10, 4) == b"good"


def test_a_callable_gets_the_restored_store(url, scratch):
    done = jrnl.archive.drill(url, "good", is_good, scratch)
    assert done.ok
    assert (done.state, done.passed, done.output) == (3, True, "")
    done = jrnl.archive.drill(url, check=is_good, scratch=scratch)
    assert not done.ok
    assert (done.passed, done.output) == (False, "the check returned False")
    done = jrnl.archive.drill(url, "good", lambda store: 1 // 0, scratch)
    assert not done.ok
    assert "ZeroDivisionError" in done.output


def test_a_command_gets_the_files_of_all_volumes(url, scratch):
    check = ["sh", "-c", "head -c 4 $0; tail -c +11 $1 | head -c 4", "{root}", "{a b}"]
    done = jrnl.archive.drill(url, "good", check, scratch)
    assert done.ok
    assert (done.exit_code, done.output) == (0, "goodgood")
    assert done.command == check


def test_its_record_is_json_and_says_what_took_how_long(url, scratch):
    seen = []
    done = jrnl.archive.drill(
        url, "good", is_good, scratch, lambda done, total: seen.append((done, total))
    )
    told = json.loads(json.dumps(done.record()))
    assert told["ok"]
    assert told["url"] == str(url)
    assert told["volumes"] == {"root": 65536, "a b": 65536}
    assert 0 < told["bytes"] <= 131072
    assert {*told["seconds"]} == {"restore", "verify", "check", "remove"}
    assert told["began"] > told["state_time"]
    assert told["age_seconds"] > 0
    assert seen and all(done <= total for done, total in seen)


@pytest.mark.parametrize("at", ["nothing", 99])
def test_a_point_that_is_not_there_fails_the_drill_and_is_told(url, scratch, at):
    done = jrnl.archive.drill(url, at, is_good, scratch)
    assert not done.ok
    assert (done.at, done.state, done.passed) == (str(at), None, None)
    assert done.error.startswith("UnknownPoint: ")


def test_what_cannot_be_a_check_or_a_folder_raises_before_anything_is_read(url, folder):
    with pytest.raises(jrnl.InvalidArgument, match=r"no \{\} where"):
        jrnl.archive.drill(url, check="true")
    with pytest.raises(jrnl.InvalidType, match="a check is"):
        jrnl.archive.drill(url, check=7)
    with pytest.raises(jrnl.InvalidArgument, match="scratch"):
        jrnl.archive.drill(url, scratch=folder / "nix")


def test_a_command_that_names_no_volume_fails_the_drill(url, scratch):
    done = jrnl.archive.drill(url, check="true {}", scratch=scratch)
    assert not done.ok
    assert "say which" in done.error
