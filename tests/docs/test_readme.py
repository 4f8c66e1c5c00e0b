"""The README's promises that a machine can hold it to."""

import re
import shlex
import tempfile
import tomllib
from typing import Any

import pytest

import jrnl
from tests.model.places import ROOT

README = (ROOT / "README.md").read_text()


def test_the_first_screen_names_the_two_commands_each_alone_on_its_line():
    first_screen = README.splitlines()[:20]
    assert "make demo" in first_screen
    assert "make test" in first_screen


BLOCKS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


def run(block: int, **names: object) -> dict[str, Any]:
    exec(compile(BLOCKS[block], "README.md", "exec"), names)
    return names


def test_the_ten_lines_are_ten_and_do_what_their_comments_say():
    assert len([line for line in BLOCKS[0].splitlines()[2:] if line]) <= 11
    names = run(0)
    vol = names["vol"]
    assert names["again"].seq == names["good"].seq
    assert vol.read(4096, 5) == b"hello"
    assert names["undo"].read(4096, 12) == b"HELLO, WORLD"
    names["store"].close()


def test_the_savepoint_puts_production_back(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "golden.img").write_bytes(b"golden" * 1000)
    names = run(1, jrnl=jrnl)
    assert names["start"].seq == 4  # a rewind is an entry, and takes the place of what it dropped
    with pytest.raises(jrnl.StoreClosed):
        names["store"].read(0, 1)


def test_the_forks_are_apart_and_one_is_kept(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = run(2, jrnl=jrnl)
    assert names["rig"].volume.read(0, 8) == b"prepared"
    assert names["children"][99].volume.read(0, 8) == b"prepared"
    with jrnl.open("run.jrnl") as store:
        assert store.volume.read(0, 8) == b"ruineded"
        with store.view(0) as view:
            assert view.read(0, 8) == b"prepared"


def test_the_example_on_disk_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "golden.img").write_bytes(b"golden" * 10000)
    names = run(3, jrnl=jrnl)
    assert names["store"].problems == []
    assert names["store"].snapshots["first"].read(0, 7) == b"durable"
    names["store"].close()
    assert (tmp_path / "vm.jrnl" / "data.img").read_bytes()[:7] == b"durable"


def test_the_example_of_a_power_cut_finds_the_flush_that_is_missing():
    [failure] = run(4, jrnl=jrnl)["found"].failures
    assert failure.shrunk == "2-s1"
    assert "entry 1: write of 8 bytes at offset 4096" in failure.explanation


def test_the_served_store_has_an_address(monkeypatch, capsys):
    with tempfile.TemporaryDirectory(prefix="jrnl-") as folder:  # a socket's path must be short
        monkeypatch.chdir(folder)
        with jrnl.create(size="64KiB") as store:
            run(5, jrnl=jrnl, store=store)
    assert capsys.readouterr().out.startswith("nbd+unix:///?socket=")


def test_the_example_of_an_archive_runs(tmp_path, monkeypatch):
    pytest.importorskip("obstore")
    monkeypatch.chdir(tmp_path)
    names = run(6, jrnl=jrnl)
    assert names["state"].read(0, 8) == b"outlives"
    names["state"].close()
    names["store"].close()


def test_the_commands_are_there():
    block = re.search(r"```sh\n(jrnlctl create.*?)```", README, re.DOTALL)[1]
    page = (ROOT / "docs" / "cli.md").read_text()
    for line in block.splitlines():
        _, command, *rest = shlex.split(line)
        section = re.search(rf"### {command}\n(.*?)(?=\n##|\Z)", page, re.DOTALL)[1]
        for option in (word for word in rest if word.startswith("--")):
            assert re.search(rf"[` ]{option}\b", section), (command, option)


def test_the_tour_runs_and_says_what_its_comments_say():
    [example] = re.findall(
        r"```python\n(.*?)```", (ROOT / "docs" / "tour.md").read_text(), re.DOTALL
    )
    names: dict[str, Any] = {}
    exec(compile(example, "tour.md", "exec"), names)
    assert names["rec"].seq == names["good"].seq
    assert names["vol"].read(4096, 5) == b"hello"
    assert names["view"].read(4096, 5) == b"hello"
    names["store"].close()


def test_all_installs_every_optional_part():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    parts = project["optional-dependencies"]
    (all_of_them,) = parts.pop("all")
    assert all_of_them == f"{project['name']}[{','.join(parts)}]"


def test_every_file_that_it_links_to_is_there():
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert (ROOT / target).exists(), target


def test_the_table_of_figures_was_written_by_the_benchmark():
    table = README.split("<!-- bench:begin -->")[1].split("<!-- bench:end -->")[0]
    assert table.count("C loop") >= 4
    page = (ROOT / "docs" / "benchmarks.md").read_text()
    assert "The write rows with each kernel forced" in page
