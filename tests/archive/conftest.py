"""A SeaweedFS for the tests of one process."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.archive import seaweed as seaweeds


@pytest.fixture(scope="session")
def seaweed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[seaweeds.SeaweedFS]:
    """One that is there for all of them: each takes a prefix of its own, and leaves it running."""
    seaweeds.need()
    server = seaweeds.SeaweedFS(tmp_path_factory.mktemp("seaweed") / "it")
    server.start()
    yield server
    server.stop()
