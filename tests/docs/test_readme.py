"""The README's promises that a machine can hold it to."""

import re
import tomllib

import jrnl
from tests.model.places import ROOT

README = (ROOT / "README.md").read_text()


def test_the_first_screen_names_the_two_commands_each_alone_on_its_line():
    first_screen = README.splitlines()[:20]
    assert "make demo" in first_screen
    assert "make test" in first_screen


def test_the_example_runs_and_says_what_its_comments_say():
    example, _, _ = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    names = {}
    exec(compile(example, "README.md", "exec"), names)
    assert names["rec"].seq == names["good"].seq
    assert names["vol"].read(4096, 5) == b"hello"
    assert names["view"].read(4096, 5) == b"hello"
    names["store"].close()


def test_the_example_on_disk_runs(tmp_path, monkeypatch):
    _, example, _ = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "golden.img").write_bytes(b"golden" * 10000)
    names = {"jrnl": jrnl}
    exec(compile(example, "README.md", "exec"), names)
    assert names["store"].problems == []
    assert names["store"].snapshots["first"].read(0, 7) == b"durable"
    names["store"].close()
    assert (tmp_path / "vm.jrnl" / "data.img").read_bytes()[:7] == b"durable"


def test_the_example_of_a_power_cut_finds_the_flush_that_is_missing():
    _, _, example = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    names = {"jrnl": jrnl}
    exec(compile(example, "README.md", "exec"), names)
    [failure] = names["found"].failures
    assert failure.shrunk == "2-s1"
    assert "entry 1: write of 8 bytes at offset 4096" in failure.explanation


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
