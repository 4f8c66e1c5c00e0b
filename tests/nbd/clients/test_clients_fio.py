"""fio, which writes, reads back and verifies, over several connections at a time."""

from __future__ import annotations

import json

import pytest

import jrnl
from tests.model.tools import need, run

SIZE = 16 << 20


@pytest.fixture
def store():
    need("fio")
    with jrnl.create(size=SIZE, journal="64MiB") as made:
        yield made


def fio(uri: str, *options: str) -> dict:
    """Run one job; return what fio says of it."""
    told = run("fio", "--name=job", "--ioengine=nbd", f"--uri={uri}", "--output-format=json",
               "--verify_state_save=0", *options)  # fmt: skip
    (job,) = json.loads(told[told.index("{") :])["jobs"]
    assert job["error"] == 0
    return job


@pytest.mark.parametrize("options", [
    ("--rw=randwrite", "--bs=4k", "--iodepth=16"),
    ("--rw=randwrite", "--bsrange=512-64k", "--bs_unaligned", "--iodepth=8", "--norandommap=0"),
    ("--rw=write", "--bs=1M", "--iodepth=4", "--fsync=4"),
])  # fmt: skip
def test_what_fio_wrote_it_finds_again(served, store, options):
    served(store)
    job = fio(served.uri("data"), *options, f"--size={SIZE >> 1}", "--verify=crc32c",
              "--do_verify=1", "--verify_fatal=1")  # fmt: skip
    assert job["write"]["io_bytes"] and job["read"]["io_bytes"]
    assert store.verify().ok


def test_fio_trims_and_mixes_on_a_scratch_branch_and_production_stays(served, store):
    store.volume.write(0, b"kept" * 1024)
    store.mark("good")
    served(store)
    job = fio(served.uri("data@good+rw"), "--rw=randtrimwrite", "--bs=4k", "--iodepth=4",
              "--size=1M")  # fmt: skip
    assert job["trim"]["total_ios"] and job["write"]["total_ios"]
    assert store.seq == store.marks["good"].seq


def test_jobs_side_by_side_leave_what_each_has_verified(served, store):
    served(store)
    told = run(
        "fio", "--name=job", "--ioengine=nbd", f"--uri={served.uri('data')}", "--numjobs=3",
        "--thread", "--size=4M", "--offset_increment=4M", "--rw=randrw", "--bs=4k",
        "--iodepth=16", "--verify=xxhash", "--verify_state_save=0", "--group_reporting",
        "--output-format=json",
    )  # fmt: skip
    (job,) = json.loads(told[told.index("{") :])["jobs"]
    assert job["error"] == 0 and job["write"]["total_ios"] > 1000
    assert store.verify().ok
