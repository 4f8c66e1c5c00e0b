"""Each command, on a store that nobody has open and on one that is served: the same."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from types import SimpleNamespace

import pytest

import jrnl
from jrnl import control
from jrnl.control import ControlServer
from tests.model.logs import FLUSH, flush, mark, pack_log, write
from tests.model.places import DATA

ENTRY_FIELDS = {"seq", "time", "kind"}


def test_info_tells_what_there_is(run, anyhow):
    told = run("info", anyhow, "--json").json
    assert told["seq"] == 8
    assert (told["window"]["oldest"], told["window"]["newest"]) == (0, 8)
    assert told["volumes"] == {"data": 1 << 20}
    assert told["journal"]["capacity"] == 1 << 20
    assert 0 < told["journal"]["used"] < 1 << 20
    assert told["journal"]["entries"] == 8
    assert told["marks"]["good"]["seq"] == 3
    assert told["snapshots"]["copy"]["seq"] == 6
    assert told["snapshots"]["copy"]["complete"]
    said = run("info", anyhow).out
    assert "0 to 8" in said
    assert "of 1 MiB" in said
    assert "good" in said


LOOKS = [
    ("info", "--json"), ("log",), ("log", "--json"), ("log", "--from", "good", "--to", "6"),
    ("diff", "good", "8"), ("diff", "0", "8", "--exact", "--json"), ("history", "0", "4KiB"),
    ("history", "0", "4KiB", "--json"), ("plan", "--to", "good"), ("plan", "--to", "2", "--json"),
    ("verify",), ("verify", "--json"), ("restore", "--to", "good", "--dry-run"),
    ("rewind", "--to", "good", "--dry-run", "--json"), ("plan", "--to", "nothing"),
    ("history", "2MiB", "1"), ("rewind", "--to", "good"), ("again",),
]  # fmt: skip


@pytest.mark.parametrize("words", LOOKS, ids=" ".join)
def test_served_and_not_the_answer_is_the_same(run, path, words):
    command, *others = words
    alone = run(command, path, *others)
    with jrnl.open(path) as store, ControlServer(store):
        served = run(command, path, *others)
    assert served == alone
    assert alone.out or alone.err


def test_log_gives_one_object_a_line_for_each_entry(run, anyhow):
    rows = [json.loads(line) for line in run("log", anyhow, "--json").out.splitlines()]
    assert [row["seq"] for row in rows] == list(range(1, 9))
    assert all(row.keys() >= ENTRY_FIELDS for row in rows)
    assert [row["kind"] for row in rows[2:6]] == ["mark", "write", "discard", "flush"]
    assert rows[2]["name"] == "good"
    assert rows[3]["offset"], rows[3]["length"] == (4096, 500)


@pytest.mark.parametrize(
    ("bounds", "seqs"),
    [(("--from", 7), [7, 8]), (("--to", "good"), [1, 2, 3]), (("--from", "copy", "--to", 6), [6])],
)
def test_log_goes_from_point_to_point(run, anyhow, bounds, seqs):
    lines = run("log", anyhow, "--json", *bounds).out.splitlines()
    assert [json.loads(line)["seq"] for line in lines] == seqs


def test_a_time_that_info_and_log_print_is_a_point(run, path):
    rows = [json.loads(line) for line in run("log", path, "--json").out.splitlines()]
    shown = run("log", path).out.splitlines()[4].split()[1]  # in local time, without a zone
    for text in (rows[4]["time"], shown):
        found = run("recover", path, "--to", text, "--out", path.parent / text, "--json").json
        assert rows[found["state"] - 1]["time"][:26] == rows[4]["time"][:26]  # to a microsecond


def test_mark_names_the_present_state(run, anyhow):
    assert run("mark", anyhow, "now", "--json").json["seq"] == 9
    assert run("info", anyhow, "--json").json["marks"]["now"]["seq"] == 9


def test_snapshot_takes_one_and_deletes_it(run, anyhow):
    assert run("snapshot", anyhow, "more").code == 0
    assert set(run("info", anyhow, "--json").json["snapshots"]) == {"copy", "more"}
    assert "--yes" in run("snapshot", anyhow, "more", "--delete").line
    assert run("snapshot", anyhow, "more", "--delete", "--yes").code == 0
    assert set(run("info", anyhow, "--json").json["snapshots"]) == {"copy"}


@pytest.mark.parametrize("base", [(), ("--base", "production")])
def test_recover_writes_a_state_into_a_new_file(run, anyhow, folder, base):
    done = run("recover", anyhow, "--to", 4, "--out", folder / "out.img", "--json", *base).json
    assert done["base"] == (base[1] if base else "copy")  # which is the next to it
    made = (folder / "out.img").read_bytes()
    assert made[4096:4101] == b"three"
    assert made[:3] == b"one"
    assert len(made) == 1 << 20
    assert os.stat(folder / "out.img").st_blocks * 512 <= 4 * 4096


def test_recover_leaves_a_file_that_is_there_alone_unless_forced(run, anyhow, folder):
    out = folder / "out.img"
    out.write_bytes(b"x" * (2 << 20))
    assert "--force" in run("recover", anyhow, "--to", 1, "--out", out).line
    assert out.read_bytes() == b"x" * (2 << 20)
    assert run("recover", anyhow, "--to", 1, "--out", out, "--force").code == 0
    assert out.read_bytes() == (b"one" * 1000).ljust(1 << 20, b"\0")


OUTPUTS = [
    ("recover", "--to", "8", "--force", "--out"), ("export", "--force"), ("export-log",),
    ("log", "--parquet"), ("plot", "-o"), ("plot", "--html"),
    ("crash", "--check", "test {}", "--limit", "1", "--junit"),
    ("crash", "--check", "test {}", "--limit", "1", "--bundles"),
]  # fmt: skip


def content_of(folder):
    return {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()}


@pytest.mark.parametrize("words", OUTPUTS, ids=" ".join)
@pytest.mark.parametrize("place", ["new.png", "snapshots/new.png", "data.img", "log", "", "link"])
def test_nothing_is_written_into_the_store_itself(run, anyhow, folder, words, place):
    before = content_of(anyhow)
    (folder / "link.png").symlink_to(anyhow / "new.png")
    (folder / "link").symlink_to(anyhow)
    out = folder / "link" / "x.png" if place == "link" else anyhow / place
    name, *others = words
    for target in (out, folder / "link.png"):
        taken = {"-o": target.suffix == ".png", "--junit": not target.is_dir()}
        if taken.get(words[-1], True):
            assert "lies in the store itself" in run(name, anyhow, *others, target).line
    assert content_of(anyhow) == before


@pytest.mark.parametrize("words", [w for w in OUTPUTS if "--bundles" not in w], ids=" ".join)
def test_a_file_of_the_store_is_not_written_to_by_another_name(run, anyhow, folder, words):
    before = content_of(anyhow)
    for file in before:
        (folder / "other.png").hardlink_to(file)
        name, *others = words
        said = run(name, anyhow, *others, folder / "other.png").line
        assert "another name of a file of the store" in said
        (folder / "other.png").unlink()
    assert content_of(anyhow) == before


@pytest.mark.parametrize("words", [OUTPUTS[3], *OUTPUTS[5:7]], ids=" ".join)
def test_a_log_is_not_written_over_by_what_is_told_of_it(run, folder, words):
    log = folder / "x.log"
    log.write_bytes(pack_log([write(0, b"a" * 512), flush()]))
    before = log.read_bytes()
    assert "is what is read" in run(words[0], log, *words[1:], log).line
    assert log.read_bytes() == before


def test_a_file_that_could_not_be_finished_is_removed(run, path, folder):
    with jrnl.create(folder / "two", volumes={"a": "64KiB", "b": "64KiB"}, journal="64KiB"):
        pass
    assert "'a', 'b'" in run("export", folder / "two", folder / "out.img").line
    assert not (folder / "out.img").exists()
    assert run("export", folder / "two", folder / "out.img", "--volume", "b").code == 0


@pytest.mark.parametrize("out", ["/dev/stdout", "/proc/self/fd/1", "/dev/fd/1", "{image}"])
def test_what_is_written_to_standard_output_is_that_alone(run, anyhow, folder, out):
    image, plain = folder / "image", folder / "plain"
    run("export", anyhow, plain)
    words = ["export", anyhow, out.format(image=image), "--force"]
    with open(image, "wb") as file:
        done = subprocess.run(
            [sys.executable, "-m", "jrnl", *map(str, words)], stdout=file, stderr=subprocess.PIPE,
            text=True, check=True,
        )  # fmt: skip
    assert image.read_bytes() == plain.read_bytes()
    assert "data at state 8" in done.stderr
    words = ["crash", anyhow, "--check", "test {}", "--limit", "1", "--junit", "/dev/stdout"]
    found = subprocess.run(
        [sys.executable, "-m", "jrnl", *map(str, words)], text=True, capture_output=True, check=True
    )
    assert found.stdout.endswith("</testsuite>\n")
    assert "the check passes" in found.stderr


def test_export_takes_the_present_state_or_another(run, anyhow, folder):
    assert run("export", anyhow, folder / "now.img").code == 0
    assert (folder / "now.img").read_bytes()[100:104] == b"last"
    assert run("export", anyhow, folder / "then.img", "--at", "good").code == 0
    assert (folder / "then.img").read_bytes()[100:104] == b"neon"


def test_export_reads_what_may_hold_data_and_leaves_the_rest_a_hole(folder):
    with jrnl.create(folder / "sparse", size="1GiB", journal="1MiB") as store:
        for k in range(8):
            store.volume.write(k << 27, b"x")
    told = []
    heard = SimpleNamespace(progress=lambda done, total: told.append((done, total)))
    out = str(folder / "out.img")
    control.call(folder / "sparse", "export", {"out": out}, heard)
    assert told[-1][0] == told[-1][1]
    assert max(total for _, total in told) <= 8 << 16  # bytes
    facts = os.stat(out)
    assert facts.st_size == 1 << 30
    assert facts.st_blocks * 512 <= 8 * 4096
    with open(out, "rb") as file:
        file.seek(7 << 27)
        assert file.read(2) == b"x\0"


def test_restore_and_again_and_undo(run, anyhow):
    done = run("restore", anyhow, "--to", "good", "--yes", "--json").json
    assert done["state"] == 3
    assert done["restored"]["first_seq"] == 9
    assert run("diff", anyhow, "good", done["restored"]["last_seq"], "--exact").out.startswith("0 ")
    assert list(run("info", anyhow, "--json").json["recoveries"]) == [str(done["id"])]
    assert run("restore", anyhow, "--to", 8, "--yes").code == 0  # undone
    once_more = run("again", anyhow, done["id"], "--yes", "--json").json
    assert once_more["restored"]["bytes"] == done["restored"]["bytes"]
    seq = run("info", anyhow, "--json").json["seq"]
    assert run("diff", anyhow, "good", seq, "--exact").out.startswith("0 ")
    assert run("again", anyhow, done["id"], "--delete", "--yes").code == 0
    assert str(done["id"]) not in run("info", anyhow, "--json").json["recoveries"]


def test_a_dry_run_says_what_then_happens_and_changes_nothing(run, anyhow):
    told = run("restore", anyhow, "--to", 2, "--dry-run", "--json").json
    assert run("info", anyhow, "--json").json["seq"] == 8
    assert run("info", anyhow, "--json").json["recoveries"] == {}
    done = run("restore", anyhow, "--to", 2, "--yes", "--json").json
    for field in ("route", "base", "entries", "bytes", "restored"):
        assert done[field] == told[field]
    assert done["window"]["oldest"] == told["window"]["oldest"]


@pytest.mark.parametrize("more", [(), ("--yes",)])
def test_a_dry_run_of_giving_a_recovery_up_keeps_it(run, anyhow, more):
    done = run("restore", anyhow, "--to", "good", "--yes", "--json").json
    told = run("again", anyhow, "--delete", "--dry-run", *more)
    assert told == (0, f"recovery {done['id']} would be deleted\n", "")
    assert list(run("info", anyhow, "--json").json["recoveries"]) == [str(done["id"])]
    assert "7" in run("again", anyhow, 7, "--delete", "--dry-run", *more).line


@pytest.mark.parametrize("complete", [True, False])
def test_a_rewind_that_was_complete_when_it_was_interrupted_is_said_to_be(
    run, anyhow, monkeypatch, complete
):
    assert "1 entry is gone" in run("rewind", anyhow, "--to", "7", "--yes").out
    real = control.call

    def interrupted(path, name, *others):
        if name == "rewind":
            if complete:
                real(path, name, *others)
            raise KeyboardInterrupt
        return real(path, name, *others)

    monkeypatch.setattr(control, "call", interrupted)
    ran = run("rewind", anyhow, "--to", "good", "--yes")
    said = f"jrnlctl: the rewind was complete: {anyhow} is at state 3"
    assert (ran.code, ran.out, ran.err.strip()) == (130, "", said if complete else "")


def test_rewind_drops_what_came_after(run, anyhow):
    told = run("rewind", anyhow, "--to", 2, "--dry-run", "--json").json
    assert (told["entries"], told["marks"]) == (6, ["good"])
    done = run("rewind", anyhow, "--to", 2, "--yes", "--json").json
    assert (done["entries"], done["marks"], done["state"]) == (6, ["good"], 2)
    assert done["bytes"] == told["bytes"]
    info = run("info", anyhow, "--json").json
    assert (info["marks"], info["window"]["oldest"]) == ({}, 0)
    assert "rewind" in run("plan", anyhow, "--to", 5).line


def test_replay_writes_a_log_onto_a_volume(run, anyhow, folder):
    log = folder / "some.log"
    log.write_bytes(pack_log([write(0, b"A" * 512), mark("end"), flush(FLUSH)]))
    assert run("replay", anyhow, log, "--json").json["entries"] == 3
    info = run("info", anyhow, "--json").json
    assert info["marks"]["end"]["seq"] == 10
    assert run("export", anyhow, folder / "now.img").code == 0
    assert (folder / "now.img").read_bytes()[:512] == b"A" * 512


def test_verify_exits_with_1_where_something_is_damaged(run, path):
    assert run("verify", path).code == 0
    with open(path / "data.img", "r+b") as file:
        file.seek(8192)
        file.write(b"LOST" * 1000)
    found = run("verify", path)
    assert found.code == 1
    assert "damaged" in found.out
    assert not run("verify", path, "--json").json["ok"]


CHECK = "grep -qv nothing {}"


def test_crash_holds_a_command_against_each_state(run, anyhow, folder):
    fine = run("crash", anyhow, "--check", "test -e {}", "--jobs", 2)
    assert fine.code == 0
    assert "passes on all" in fine.out
    junit = folder / "report.xml"
    found = run("crash", anyhow, "--check", "grep -qa last {}", "--junit", junit, "--json")
    assert found.code == 1
    failures = found.json["failures"]
    assert "<failure" in junit.read_text()
    again = run("crash", anyhow, "--check", "grep -qa last {}", "--state", failures[0]["id"])
    assert again.code == 1
    assert f"state {failures[0]['id']}" in again.out
    assert run("crash", anyhow, "--check", "grep -qa last {}", "--state", 8).code == 0


def test_crash_takes_states_of_which_much_is_lost(run, folder):
    with jrnl.create(folder / "big.jrnl", size="8TiB", journal="8MiB") as store:
        for number in range(1, 2001):
            store.volume.write(number << 32, b"x")
    words = ["--check", "test ! -s {}", "--limit", "9", "--bundles", folder / "bundles", "--json"]
    found = run("crash", folder / "big.jrnl", *words).json
    assert found["coverage"]["looked"] == len(found["failures"]) > 3
    longest = max((each["id"] for each in found["failures"]), key=len)
    assert len(longest) > 255
    assert len(os.listdir(folder / "bundles")) == len(found["failures"])
    again = run("crash", folder / "big.jrnl", "--check", "test -s {}", "--state", longest)
    assert again.code == 0


def test_a_check_that_hangs_is_a_failure_of_its_state(run, anyhow):
    hangs = ["--check", "sh -c 'sleep 60 #{}'", "--timeout", "0.2"]
    found = run("crash", anyhow, *hangs, "--limit", "2", "--json")
    assert found.code == 1
    assert ["has not ended after 0.2 s" in bad["message"] for bad in found.json["failures"]] == [
        True, True
    ]  # fmt: skip
    one = run("crash", anyhow, *hangs, "--state", found.json["failures"][0]["id"])
    assert one.code == 1
    assert "has not ended after 0.2 s" in one.out


def test_a_command_may_have_braces_of_its_own(run, anyhow):
    check = """sh -c '{ test "{nosuch}" = "{""nosuch}" && test -f {data}; }' {}"""
    assert run("crash", anyhow, "--check", check, "--limit", "1").code == 0


def test_crash_takes_a_log(run, folder):
    log = folder / "some.log"
    log.write_bytes(pack_log([write(0, b"A" * 512), flush(), write(1, b"B" * 512)]))
    found = run("crash", log, "--check", "grep -qa B {}", "--from", 2)
    assert found.code == 1
    assert "again: the same with --state 2\n" in found.out
    assert run("crash", log, "--check", "grep -qa A {}", "--from", 2).code == 0


@pytest.mark.parametrize(
    "words",
    [("--size", "1MiB"), ("--volume", "a=64KiB", "--volume", "b=1MiB"), ("--from", "{image}"),
     ("--volume", "a=2MiB", "--from", "a={image}")],
)  # fmt: skip
def test_create_makes_what_it_is_told(run, folder, words):
    image = folder / "an=image"
    image.write_bytes(b"golden" * 1000)
    given = [word.format(image=image) for word in words]
    made = run("create", folder / "new", *given, "--journal", "64KiB", "--images", "after",
               "--overflow", "refuse", "--sync", "always")  # fmt: skip
    assert made.code == 0
    info = run("info", folder / "new", "--json").json
    assert info["journal"]["capacity"] == 65536
    assert (info["images"], info["overflow"], info["sync"]) == ("after", "refuse", "always")
    if "{image}" in words[-1]:
        assert run("export", folder / "new", folder / "out.img").code == 0
        assert (folder / "out.img").read_bytes().startswith(b"golden")


def test_two_can_look_at_an_unserved_store_at_once(run, path):
    with jrnl.open(path, "r"):
        assert run("info", path).code == 0
        assert run("restore", path, "--to", "good", "--dry-run").code == 0


def test_the_binary_is_the_same(path):
    done = subprocess.run(
        [sys.executable, "-m", "jrnl", "info", path, "--json"], capture_output=True, check=True
    )
    assert json.loads(done.stdout)["seq"] == 8


def test_export_log_makes_a_log_that_replays(run, anyhow, folder):
    done = run("export-log", anyhow, folder / "out.log", "--json").json
    assert (done["first_state"], done["last_state"]) == (0, 8)
    lines = run("log", folder / "out.log", "--json").out.splitlines()
    assert len(lines) == done["entries"]
    assert run("create", folder / "new", "--size", "1MiB").code == 0
    assert run("replay", folder / "new", folder / "out.log").code == 0
    with jrnl.open(folder / "new", "r") as new:
        assert new.read(0, 200) == bytes(100) + b"last" + bytes(96)
        assert (
            new.view("good").read(0, 9000)
            == (b"one" * 1000).ljust(8192, b"\0") + (b"two" * 270)[:808]
        )
    assert "already" in run("export-log", anyhow, folder / "out.log").line


def test_log_writes_a_parquet_file(run, anyhow, folder):
    parquet = pytest.importorskip("pyarrow.parquet")
    assert run("log", anyhow, "--parquet", folder / "out.parquet", "--from", 3).code == 0
    table = parquet.read_table(folder / "out.parquet")
    assert table["seq"].to_pylist() == [3, 4, 5, 6, 7, 8]


def test_files_reads_a_file_out_of_a_state(capfdbinary, folder):
    pytest.importorskip("dissect.extfs")
    from jrnl.cli import main

    log = str(DATA / "ext4-docs.log.xz")
    assert main(["files", f"{log}@399", "ls", "--json"]) == 0
    listed = json.loads(capfdbinary.readouterr().out)
    assert listed["kind"] == "ext4"
    assert "lost+found" in [entry["name"] for entry in listed["entries"]]
    with jrnl.logwrites.attach(log) as history, history.view(399) as view:
        found = jrnl.files.open_file_system(view.volume)
        place = next(place for place, entry in found.walk() if entry.type == "file" and entry.size)
        content = io.BytesIO()
        found.cat(place, content)
    assert main(["files", f"{log}@399", "cat", place]) == 0
    assert capfdbinary.readouterr().out == content.getvalue()


def test_files_of_a_store_are_the_same_served_or_not(capfdbinary, folder):
    pytest.importorskip("dissect.extfs")
    from jrnl.cli import main

    with jrnl.create(folder / "fs", size="64MiB", journal="32MiB") as store:
        jrnl.logwrites.replay(DATA / "ext4-docs.log.xz", store.volume)
        store.mark("end")
    words = ["files", f"{folder / 'fs'}@end", "ls"]
    assert main(words) == 0
    alone = capfdbinary.readouterr()
    with jrnl.open(folder / "fs") as store, ControlServer(store):
        assert main(words) == 0
    assert capfdbinary.readouterr() == alone
    assert b"lost+found" in alone.out


def test_plot_draws_a_picture_and_a_page(run, anyhow, folder):
    pytest.importorskip("matplotlib")
    done = run("plot", anyhow, "-o", folder / "a.png", "--html", folder / "a.html", "--from", 2)
    assert done.out.split() == [str(folder / "a.png"), str(folder / "a.html")]
    assert (folder / "a.png").read_bytes().startswith(b"\x89PNG")
    assert "<html" in (folder / "a.html").read_text()
    assert run("plot", DATA / "ext4-docs.log.xz", "-o", folder / "b.svg").code == 0
    assert "<svg" in (folder / "b.svg").read_text()


def test_bench_measures_both_ways(run):
    told = run("bench", "--rounds", 1, "--json").json
    assert len(told["rows"]) == 3
    assert all(min(row["jrnl_ns"], row["by_hand_ns"], row["ratio"]) > 0 for row in told["rows"])
    assert "by hand" in run("bench", "--rounds", 1).out


def test_a_rewind_that_is_refused_says_which_commands_clear_the_way(run, path):
    with jrnl.open(path) as store, ControlServer(store):
        assert run("restore", path, "--to", 4, "--yes").code == 0
        assert run("mark", path, "kept", "--pin").code == 0
        view = store.view(5)
        said = run("rewind", path, "--to", 3, "--yes").line
        assert "recoveries: 1 ('again ID --delete'" in said
        assert "states 5 (--close-views" in said
        assert "kept ('mark NAME --unpin'" in said
        assert run("mark", path, "kept", "--unpin").code == 0
        assert run("again", path, 1, "--delete", "--yes").code == 0
        assert run("rewind", path, "--to", 3, "--yes", "--close-views").code == 0
        view.close()


def test_mark_names_an_earlier_state(run, anyhow):
    assert run("mark", anyhow, "then", "--at", "good", "--json").json["seq"] == 3
    assert run("info", anyhow, "--json").json["marks"]["then"]["seq"] == 3
    rows = [json.loads(line) for line in run("log", anyhow, "--json", "--from", 9).out.splitlines()]
    assert rows[0]["state"] == 3
    assert "then  to state 3" in run("log", anyhow, "--from", 9).out


def test_files_reads_a_partition(capfdbinary, folder):
    pytest.importorskip("dissect.extfs")
    from jrnl.cli import main

    with jrnl.logwrites.attach(DATA / "ext4-docs.log.xz") as log, log.view(399) as view:
        content = view.volume.read(0, view.volume.size)
    (folder / "image").write_bytes(bytes(1 << 20) + content)
    words = ["create", str(folder / "vm2"), "--from", str(folder / "image"), "--journal", "64KiB"]
    assert main(words) == 0
    assert main(["files", str(folder / "vm2"), "ls"]) == 1
    assert main(["files", str(folder / "vm2"), "ls", "--offset", "1MiB"]) == 0
    assert b"lost+found" in capfdbinary.readouterr().out


@pytest.mark.parametrize("at", [None, "good"])
def test_fork_makes_a_store_that_begins_with_a_state(run, anyhow, folder, at):
    new = folder / "child"
    point = [] if at is None else ["--at", at]
    said = run("fork", anyhow, new, *point)
    assert said.code == 0
    parent = run("info", new, "--json").json["parent"]
    assert f"state {parent['seq']} of" in said.out
    assert run("info", anyhow, "--json").json["parent"] is None
    assert parent["key"] in run("info", new).out
    assert run("export", anyhow, folder / "one", *point).code == 0
    assert run("export", new, folder / "two").code == 0
    assert (folder / "one").read_bytes() == (folder / "two").read_bytes()
    assert "something there already" in run("fork", anyhow, new).line
    assert "in the store itself" in run("fork", anyhow, anyhow / "child").line
    assert run("fork", anyhow, folder / "third", "--at", "nix").code == 1
    grown = run("fork", anyhow, folder / "grown", "--history", "--json", *point).json
    assert grown["window"] == {"oldest": 0, "newest": parent["seq"]}
    assert run("fork", anyhow, folder / "fourth", "--json").json["parent"]["seq"] == 8
