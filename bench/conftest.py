"""Hooks and fixtures of the suite: skipped rows reach the JSON, the machine's name does not."""

import gc
import os
import platform
import re

import pytest

import jrnl

from . import harness, on_disk, workload
from .by_hand import ByHand
from .yardstick import CLoop


def pytest_benchmark_update_json(config, benchmarks, output_json):
    output_json["skipped"] = harness.skipped
    output_json["small"] = workload.SMALL
    output_json["file_system"] = on_disk.seen


def pytest_benchmark_update_machine_info(config, machine_info):
    machine_info.pop("node", None)
    cpu = machine_info.get("cpu") or {}
    machine_info["jrnl"] = {
        "kernel": jrnl.kernel,
        "processor": processor(),
        "libc": " ".join(platform.libc_ver()),
        "tunables": os.environ.get("GLIBC_TUNABLES", ""),
    }
    machine_info["cpu"] = {"brand_raw": cpu.get("brand_raw", ""), "count": os.cpu_count()}


def processor():
    """Family and model: processors of one name differ."""
    with open("/proc/cpuinfo") as file:
        text = file.read()
    found = [re.search(rf"^{word}\s*: (\d+)$", text, re.M) for word in ("cpu family", "model")]
    return f"family {found[0][1]} model {found[1][1]}" if all(found) else platform.machine()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item):
    gc.collect()  # the gigabytes of the file before are gone before the next are taken


@pytest.fixture(scope="module")
def loop():
    """The C loop's own volume and ring, warmed up: the ring has wrapped."""
    yard = CLoop(workload.VOLUME, workload.JOURNAL)
    count = 2 * workload.JOURNAL // workload.BLOCK
    yard.write(workload.offsets(0, count, workload.BLOCK), workload.rows(1, workload.BLOCK))
    return yard


@pytest.fixture(scope="module")
def hand():
    """The same by hand in Python; its ring has wrapped, too."""
    by_hand = ByHand(workload.VOLUME, workload.JOURNAL)
    offsets = workload.offsets(0, 2 * workload.JOURNAL // workload.BLOCK, workload.BLOCK)
    by_hand.memoryview_slices(offsets.tolist(), workload.rows(1, workload.BLOCK)[0])
    return by_hand
