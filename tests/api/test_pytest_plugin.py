"""The pytest plugin, by runs of pytest: stores put back after each test, a test for each state."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import entry_points

import pytest

import jrnl
from jrnl import crash, logwrites
from tests.model.places import ROOT

pytest_plugins = ["pytester"]

# A build that lies on Python's path and is not installed has no entry point.
IS_INSTALLED = "jrnl" in entry_points(group="pytest11").names
LOADED = () if IS_INSTALLED else ("-p", "_jrnl_pytest")
Run = Callable[..., pytest.RunResult]


@pytest.fixture
def run(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs pytest on the text of a file of tests."""
    if importlib.util.find_spec("_jrnl_pytest") is None:
        monkeypatch.setattr(sys, "path", [*sys.path, str(ROOT / "src")])
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, map(os.path.abspath, sys.path))))

    def run_it(text: str, *arguments: str, inside: bool = True) -> pytest.RunResult:
        pytester.makepyfile(test_it=text)
        start = pytester.runpytest_inprocess if inside else pytester.runpytest_subprocess
        return start(
            *LOADED, "-p", "no:hypothesispytest", "-p", "no:benchmark", "-Wdefault", *arguments
        )

    return run_it


# Stores.

LEFT_OPEN = """
import pytest
import jrnl

PREPARED = []

def prepare(store):
    PREPARED.append(store)
    store.volume.write(4096, b"prepared")
    store.mark("prepared")

pytestmark = pytest.mark.jrnl(size="64KiB", journal="256KiB", prepare=prepare)

def an_edit(store):
    edit = store.volume.edit(0, 100)
    edit.__enter__()[:] = 1
    return edit

def a_savepoint(store):
    savepoint = store.savepoint()
    savepoint.__enter__()
    return savepoint

def a_generator(store):
    def write():
        with store.savepoint(), store.volume.edit(0, 10) as array:
            array[:] = 2
            yield
    written = write()
    next(written)
    return written

LEAVE = {
    "view": lambda store: store.view(store.seq - 1),
    "written": lambda store: store.view(store.seq, writable=True).write(0, b"x"),
    "view of a view": lambda store: store.view(store.seq).view(),
    "pinned view": lambda store: store.view(store.seq, pinned=True),
    "recovery": lambda store: store.recover(store.seq - 1),
    "restored": lambda store: store.recover(0).restore(),
    "undoable": lambda store: store.recover(0, undoable=True),
    "pin": lambda store: store.pin(store.seq),
    "pinned mark": lambda store: store.mark("pinned", pinned=True),
    "mark": lambda store: store.mark("mark"),
    "snapshot": lambda store: store.snapshot("snapshot"),
    "edit": an_edit,
    "savepoint": a_savepoint,
    "generator": a_generator,
    "file": lambda store: store.volume.as_file(),
    "array": lambda store: store.volume.as_array(),
    "rewound": lambda store: store.rewind(store.seq - 1),
    "retained": lambda store: store.retain(at_least=3600),
}

@pytest.mark.parametrize("kind", [*LEAVE, "nothing"])
def test_it(jrnl_store, kind):
    assert jrnl_store.volume.read(4096, 8) == b"prepared"
    assert not any(jrnl_store.volume.read(0, 4096))
    assert not jrnl_store.views and not jrnl_store.recoveries and not jrnl_store.pins
    assert [*jrnl_store.marks] == ["prepared"]
    assert [*jrnl_store.snapshots] == ["jrnl_store"]
    assert jrnl_store.options.keep_at_least is None
    assert [*PREPARED] == [jrnl_store]
    jrnl_store.volume.write(0, b"test")
    if kind != "nothing":
        left = LEAVE[kind](jrnl_store)
        raise RuntimeError("and this holds it")
"""


def test_a_store_is_put_back_whatever_a_failing_test_has_left_open(run):
    result = run(LEFT_OPEN)
    result.assert_outcomes(failed=18, passed=1)
    result.stdout.no_fnmatch_line("*E  *AssertionError*")
    result.stdout.no_fnmatch_line("*E  *Error: [!a]*")


FALLEN_BACK = """
import pytest
import jrnl

MADE = []

def prepare(store):
    MADE.append(store)
    store.volume.write(4096, b"prepared")

small = {"size": "256KiB", "journal": "16KiB"}

@pytest.mark.parametrize("n", range(3))
@pytest.mark.jrnl(**small, prepare=prepare)
def test_prepared(jrnl_store, n):
    assert jrnl_store.volume.read(4096, 8) == b"prepared"
    assert jrnl_store.volume.read(0, 2) == bytes(2)
    for k in range(60):
        jrnl_store.volume.write(4096 * k, b"much" * 1000)
    assert len(MADE) == 1

@pytest.mark.parametrize("n", range(2))
@pytest.mark.jrnl(**small)
def test_bare(jrnl_store, n):
    assert jrnl_store.seq == 0
    for k in range(60):
        jrnl_store.volume.write(4096 * k, b"much" * 1000)

class TestImages:
    @pytest.fixture(params=["after", "both"])
    def jrnl_store_options(self, request):
        return {"size": "64KiB", "journal": "64KiB", "images": request.param}

    @pytest.mark.parametrize("n", range(2))
    def test_images(self, jrnl_store, n):
        assert not any(jrnl_store.volume.read(0, 8))
        jrnl_store.volume.write(0, b"x")

@pytest.mark.parametrize("n", range(3))
@pytest.mark.jrnl(size="64KiB", prepare=prepare)
def test_closed(jrnl_store, n):
    assert jrnl_store.volume.read(4096, 8) == b"prepared"
    jrnl_store.close()

@pytest.mark.parametrize("n", range(2))
@pytest.mark.jrnl(size="128KiB", prepare=prepare)
def test_deleted(jrnl_store, n):
    assert jrnl_store.volume.read(4096, 8) == b"prepared"
    jrnl_store.snapshots["jrnl_store"].delete()
"""


def test_where_a_rewind_cannot_be_a_snapshot_or_another_store_stands_in_and_that_is_said_once(run):
    result = run(FALLEN_BACK)
    result.assert_outcomes(passed=14, warnings=2)  # once for each of two stores
    result.stdout.fnmatch_lines(["*jrnl_store could not be rewound to where the test began*"])


GIVEN = """
import pytest
import jrnl

STORE = jrnl.create(size="64KiB", journal="64KiB")
STORE.volume.write(0, b"given")
CALLS = []

def make():
    CALLS.append(1)
    return jrnl.create(volumes={"a": 4096, "b": 8192}, journal="16KiB")

class TestStore:
    @pytest.fixture
    def jrnl_store_options(self):
        return STORE

    @pytest.mark.parametrize("n", range(2))
    def test_given(self, jrnl_store, n):
        assert jrnl_store is STORE
        assert STORE.volume.read(0, 6) == b"given\\0"
        STORE.volume.write(5, b"x")

    @pytest.mark.jrnl(size=1)
    def test_options_for_a_store(self, jrnl_store):
        pass

    def test_it_closes_it(self, jrnl_store):
        jrnl_store.close()

    def test_there_is_no_other(self, jrnl_store):
        pass

class TestMade:
    @pytest.fixture
    def jrnl_store_options(self):
        return make

    @pytest.mark.parametrize("n", range(2))
    def test_made(self, jrnl_store, n):
        assert [*jrnl_store] == ["a", "b"] and CALLS == [1]
        jrnl_store["a"].write(0, b"x")

class TestOptions:
    @pytest.fixture
    def jrnl_store_options(self):
        return {"volumes": {"a": 4096}, "journal": "32KiB"}

    def test_options(self, jrnl_store):
        assert jrnl_store.options.volumes == {"a": 4096} and jrnl_store.options.journal == 32768

    @pytest.mark.jrnl(size=512)
    def test_the_marker_goes_before_them(self, jrnl_store):
        assert jrnl_store.options.volumes == {"data": 512} and jrnl_store.options.journal == 32768

    @pytest.mark.jrnl(sice=512)
    def test_no_option(self, jrnl_store):
        pass

def test_by_default(jrnl_store, tmp_path):
    assert jrnl_store.options.path is None and jrnl_store.volume.size == 16 << 20

def test_without(jrnl_store):
    assert jrnl_store.seq == 0
"""


def test_a_store_is_made_of_options_or_by_a_function_or_is_given(run):
    result = run(GIVEN)
    result.assert_outcomes(passed=9, errors=3)
    result.stdout.fnmatch_lines([
        "*there is nothing to make with them*",
        "*cannot be put back (it is closed): let it give a function that makes the store",
    ])  # fmt: skip


def test_a_store_on_disk_is_put_back_too(run):
    run("""
        import pytest

        @pytest.fixture(scope="session")
        def folder(tmp_path_factory):
            return tmp_path_factory.mktemp("stores")

        @pytest.fixture
        def jrnl_store_options(folder):
            return {"path": folder / "s.jrnl", "size": "64KiB", "journal": "64KiB"}

        @pytest.mark.parametrize("n", range(3))
        def test_it(jrnl_store, n):
            assert not any(jrnl_store.volume.read(0, 4096))
            jrnl_store.volume.write(0, b"x")
            jrnl_store.flush()
            jrnl_store.view(0)
    """).assert_outcomes(passed=3)


# What it costs who does not use it.


def test_jrnl_imports_no_pytest_and_pytest_no_jrnl(run):
    names = ("pytest", "_pytest", "hypothesis", "_jrnl_pytest", "jrnl.pytest_plugin")
    text = f"import sys, jrnl; print([n for n in {names} if n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
    result = run(
        """
        import sys

        def test_it():
            assert "_jrnl_pytest" in sys.modules
            assert "jrnl" not in sys.modules
        """,
        inside=False,
    )
    result.assert_outcomes(passed=1)


# A test for each state.

HISTORY = '''
import pytest
import jrnl
from jrnl import crash

def history():
    """Records at 0 and 4096 whose order the last epoch does not keep."""
    store = jrnl.create(size="64KiB", journal="1MiB")
    for k in range(6):
        store.volume.write(4096 * (k % 2), bytes([k + 1]) * 512)
        if k % 2:
            store.flush()
    for k in range(6):
        store.volume.write(4096 * k, bytes([k + 11]) * 512)
    return store
'''
EACH = f"""{HISTORY}
@pytest.mark.crash_states(history, mode="subset", tag=lambda offset: f"record {{offset // 4096}}")
def test_each(crash_state):
    second, fifth = (crash_state.volume.read(4096 * k, 1) for k in (1, 4))
    assert not (fifth == bytes([15]) and second != bytes([12]))
"""


def history_of(text: str) -> jrnl.Store:
    names: dict[str, Callable[[], jrnl.Store]] = {}
    exec(text.split("@pytest", maxsplit=1)[0], names)
    return names["history"]()


def is_bad(state: crash.CrashState) -> bool:
    return state.volume.read(16384, 1) == b"\x0f" and state.volume.read(4096, 1) != b"\x0c"


def ids_of(text: str, **wanted: object) -> tuple[list[str], list[str]]:
    """The ids of all states, and of the bad ones."""
    with history_of(text) as history:
        states = [*crash.states(history, mode="subset", **wanted)]
        return [state.id for state in states], [state.id for state in states if is_bad(state)]


def test_each_state_has_its_test_and_a_bad_one_is_shrunk_named_and_kept(run, pytester):
    everything, bad = ids_of(EACH)
    result = run(EACH, "-v")
    result.assert_outcomes(passed=len(everything) - len(bad), failed=len(bad))
    text = result.stdout.str()
    reported = re.findall(r"test_each\[([\w-]+)\] (PASSED|FAILED)", text)
    assert [id for id, _ in reported] == everything
    assert [id for id, outcome in reported if outcome == "FAILED"] == bad
    shrunk = re.findall(r"state ([\w-]+) shrinks to ([\w-]+): that is what it takes to fail", text)
    assert shrunk and {id for id, _ in shrunk} <= {*bad}
    assert {smaller for _, smaller in shrunk} == {"14-s2"}
    result.stdout.fnmatch_lines([
        "*entry 11: write of 512 bytes at offset 4096 of 'data' (record 1), after flush 9",
        "replay: python -m pytest 'test_it.py::test_each[[]14-s2]' --jrnl-state=14-s2",
    ])  # fmt: skip
    assert text.count("\nbundle: ") == 3
    assert text.count("not shrunk, and no bundle") == len(bad) - 3
    result.stdout.fnmatch_lines([f"*::test_each: {len(everything)} states, all that there are*"])
    bundles = {line.partition(": ")[2] for line in text.splitlines() if line.startswith("bundle")}
    assert all(str(pytester.path / ".pytest_cache") in bundle for bundle in bundles)
    assert any(bundle.endswith("crash-14-s2") for bundle in bundles)


def test_the_bundle_alone_makes_the_state_again(run, pytester, monkeypatch):
    run(EACH, "--jrnl-bundles=kept", "-k", "14-s2 or 14-s6")
    folder = pytester.path / "kept" / "test_it.py_test_each" / "crash-14-s2"
    told = json.loads((folder / "state.json").read_text())
    assert "AssertionError" in told["message"]
    monkeypatch.chdir(folder)
    again = eval(told["replay"], {"jrnl": jrnl})
    with history_of(EACH) as history:
        wanted = crash.state(history, "14-s2")
        assert again.digest() == wanted.digest()
        assert (folder / "data.img").read_bytes() == wanted.volume.read(0, 65536)


def test_the_command_that_is_printed_runs_that_state_alone(run):
    result = run(EACH, "test_it.py::test_each[14-s2]", "--jrnl-state=14-s2")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["no state with less lost than 14-s2 has fails"])


def test_a_state_is_replayed_that_a_limit_leaves_out(run):
    limited = EACH.replace('"subset"', '"subset", limit=5')
    ids, _ = ids_of(EACH, limit=5)
    assert "14-s2" not in ids
    run(limited).assert_outcomes(passed=5)
    run(limited, "--jrnl-state", "14-s2").assert_outcomes(failed=1)
    result = run(limited, "--jrnl-state", "99-s2")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*UnknownPoint: there is no state 99 in the history"])


def test_states_are_right_in_whichever_order_their_tests_run(run, pytester):
    pytester.makeconftest("""
        import random

        def pytest_collection_modifyitems(items):
            random.Random(3).shuffle(items)
    """)
    result = run(f"""{HISTORY}
@pytest.mark.parametrize("other", "ab")
@pytest.mark.crash_states(history, mode="subset")
def test_each(crash_state, other, request):
    assert crash_state.id in request.node.name
    assert crash_state.digest() == crash.state(history(), crash_state.id).digest()
""")
    result.assert_outcomes(passed=2 * len(ids_of(EACH)[0]))


def test_fixtures_are_made_again_for_each_smaller_state(run):
    result = run(f"""{HISTORY}
@pytest.fixture
def record(crash_state, tmp_path):
    (tmp_path / "new").mkdir()  # a second time it would fail
    return crash_state.volume.read(4096, 1), crash_state.volume.read(16384, 1)

@pytest.mark.crash_states(history, mode="subset", stop=14)
def test_each(record, jrnl_store):
    assert jrnl_store.seq == 0 or not jrnl_store.volume.read(0, 1)[0]
    jrnl_store.volume.write(0, b"x")
    print("said", "by the test")
    assert record[1] != bytes([15]) or record[0] == bytes([12])

@pytest.fixture
def mounted(crash_state):
    assert crash_state.volume.read(16384, 1) != bytes([15]) or not crash_state.lost

@pytest.mark.crash_states(history, mode="subset", stop=14)
def test_mount(mounted):
    pass
""")
    text = result.stdout.str()
    assert {*re.findall(r"shrinks to ([\w-]+)", text)} == {"14-s2", "14-s1"}
    assert "Error: [Errno" not in text and "INTERNALERROR" not in text
    assert result.parseoutcomes()["errors"] > 3  # of the fixture
    failed = result.parseoutcomes()["failed"]
    assert text.count("said by the test") == failed  # not what it says when it runs again


def test_what_is_skipped_or_expected_to_fail_is_not_explained(run):
    result = run(f"""{HISTORY}
@pytest.mark.crash_states(history=history)
def test_skipped(crash_state):
    pytest.skip("no")

@pytest.mark.xfail
@pytest.mark.crash_states(history=history)
def test_expected(crash_state):
    assert 0

@pytest.mark.xfail
@pytest.mark.crash_states(history, items=False)
def test_expected_of_all(crash_state):
    assert 0
""")
    assert "crash state --" not in result.stdout.str()
    assert set(result.parseoutcomes()) == {"skipped", "xfailed"}


def test_a_state_that_fails_now_and_then_is_said_to(run):
    result = run(f"""{HISTORY}
times = []

@pytest.mark.crash_states(history, mode="subset", start=2, stop=2)
def test_each(crash_state):
    times.append(1)
    assert len(times) != 2
""")
    result.stdout.fnmatch_lines(["state 2-s1 failed, and passes when the test is run again"])


def test_what_cannot_be_told_of_a_failure_does_not_hide_it(run, pytester):
    (pytester.path / "full").write_text("no folder")
    result = run(
        f"""{HISTORY}
def tag(offset):
    raise KeyError(offset)

@pytest.mark.crash_states(history, start=2, stop=2, tag=tag, mode="subset")
def test_each(crash_state):
    assert not crash_state.lost

@pytest.mark.crash_states(history, start=2, stop=2, mode="torn", damage="unreadable")
def test_damaged(crash_state):
    crash_state.read(4096, 4096)
""",
        "--jrnl-bundles=full",
    )
    text = result.stdout.str()
    assert "INTERNALERROR" not in text
    result.stdout.fnmatch_lines(["state 2-s2; no more could be told: KeyError: 4096"])
    result.stdout.fnmatch_lines(["512 bytes at offset 4096 of 'data' are unreadable"])
    result.stdout.fnmatch_lines(["bundle: none: *Not a directory*"])


def test_a_log_is_named_by_its_path_beside_the_test(run, pytester, unpack):
    trace = unpack("ext4-sqlite")
    (pytester.path / "it.log").symlink_to(trace)
    text = """
        import pytest

        @pytest.mark.crash_states("it.log", size="64MiB", limit=7)
        def test_log(crash_state):
            assert crash_state.volume.size == 64 << 20

        @pytest.mark.crash_states("it.log", size="64MiB", limit=7, items=False)
        def test_all(crash_state):
            assert crash_state.volume.size == 64 << 20
    """
    run(text).assert_outcomes(passed=8)
    with logwrites.attach(trace, size="64MiB") as log:
        ids = [state.id for state in crash.states(log, limit=7)]
    lines = run(text, "--collect-only", "-q").stdout.lines
    # Before pytest 8.4 a parameter cannot be hidden.
    assert [line.removesuffix("[all]") for line in lines if "::" in line] == [
        *(f"test_it.py::test_log[{id}]" for id in ids), "test_it.py::test_all"
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("@pytest.mark.crash_states(history=history)\ndef test_it(): pass", "takes no crash_state"),
        ("def test_it(crash_state): pass", "*marked with @pytest.mark.crash_states"),
        ("@pytest.mark.crash_states(3)\ndef test_it(crash_state): pass", "*a history is a store*"),
        (
            "@pytest.mark.crash_states(history, items=0)\ndef test_it(crash_state): pass",
            "*items must be True, False or from 1 on, not 0",
        ),
        (
            "@pytest.fixture\ndef fs(crash_state): pass\n"
            "@pytest.mark.crash_states(history, items=False)\ndef test_it(crash_state, fs): pass",
            "*but its fixture fs takes one*",
        ),
        (
            "@pytest.mark.crash_states(history, mode='all')\ndef test_it(crash_state): pass",
            "*mode must be one of prefix, subset, torn*",
        ),
        (
            "@pytest.mark.crash_states('none')\ndef test_it(crash_state): pass",
            "*No such file*none'",
        ),
    ],
)
def test_what_cannot_be_is_said_at_once(run, text, said):
    result = run(f"{HISTORY}\n{text}\n")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines([f"*{said}*"])


# One test for all states.

ALL = EACH.replace('"subset"', '"subset", items=False').replace("test_each", "test_all")


def test_one_test_goes_through_all_states_and_reports_the_bad_ones_like_tests(run, pytester):
    _, bad = ids_of(EACH)
    result = run(ALL)
    text = result.stdout.str()
    result.assert_outcomes(failed=11)  # the first ten, and the test itself
    for id in bad[:10]:
        result.stdout.fnmatch_lines([f"*_ test_all[[]{id}] _*"])
        result.stdout.fnmatch_lines([f"FAILED test_it.py::test_all* - [[]{id}] AssertionError*"])
    assert {*re.findall(r"shrinks to ([\w-]+)", text)} == {"14-s2"}
    result.stdout.fnmatch_lines([
        "replay: python -m pytest *test_it.py::test_all* --jrnl-state=14-s2",
        "10 crash states fail: *; the test has ended with the first 10",
    ])  # fmt: skip
    assert (pytester.path / ".pytest_cache/d/jrnl-bundles/test_it.py_test_all").is_dir()
    run(ALL, "test_it.py::test_all", "--jrnl-state=14-s2").assert_outcomes(failed=2)
    run(ALL, "test_it.py::test_all", "--jrnl-state=14-s1").assert_outcomes(passed=1)
    run(ALL, "-x").assert_outcomes(failed=2)


def test_states_are_shared_among_some_tests(run):
    everything, bad = ids_of(EACH)
    text = ALL.replace("items=False", "items=3").replace(
        "def history", "SEEN = []\n\ndef history", 1
    )
    result = run(f"""{text}
    SEEN.append(crash_state.id)

def test_all_were_seen():
    assert len({{*SEEN}}) == {len(everything) - len(bad)}
""")
    result.assert_outcomes(failed=len(bad) + 3, passed=1)
    failed = re.findall(r"_ test_all\[([\w-]+)\] _", result.stdout.str())
    assert sorted(failed) == sorted([*bad, "1of3", "2of3", "3of3"])


# Side by side.


@pytest.mark.parametrize("text", [EACH, ALL.replace("items=False", "items=4")], ids=["each", "all"])
def test_workers_agree_on_the_states(run, text):
    alone, shared = run(text), run(text, "-n2")
    assert shared.parseoutcomes() == alone.parseoutcomes()
    reported = re.compile(r"^_+ (test_\w+\[.*\]) _+$", re.M)
    failed = reported.findall(alone.stdout.str())
    assert sorted(reported.findall(shared.stdout.str())) == sorted(failed)
    assert len(failed) >= len(ids_of(EACH)[1])
    shared.stdout.fnmatch_lines(["*shrinks to 14-s2*", "bundle: *crash-14-s2"])
    shared.stdout.fnmatch_lines(["*::test_*states, all that there are*"])
