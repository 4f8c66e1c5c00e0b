"""The simulated store as the package `obstore` shows one, below the retries that ship."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, ClassVar

from obstore.exceptions import AlreadyExistsError, GenericError, PermissionDeniedError

from jrnl.archive.failures import Patience
from jrnl.archive.obstored import ObstoreObjects
from tests.archive.sim.doors import CREATE, DELETE, Turns, hidings
from tests.archive.sim.wire import SECOND, Flying
from tests.archive.sim.world import Actor, World


def _said(text: str) -> Callable[[str], Exception]:
    return lambda what: GenericError(f"{what}: {text}")


class Store(Turns):
    """What `jrnl.archive.obstored` calls; each request is a turn."""

    reasons: ClassVar = {
        "lost": _said("status 503"),
        "unanswered": _said("kind: Timeout"),
        "late": _said("kind: Connect"),
        "partly": _said("status 500"),
        "full": _said("status 507"),
        "refused": lambda what: PermissionDeniedError(f"{what}: status 403"),
    }

    def put(self, key: str, body: bytes | memoryview, *, mode: str, use_multipart: bool) -> None:
        assert (mode, use_multipart) == ("create", False)
        content, wire = bytes(body), self.world.wire

        def effect() -> str:
            return "made" if wire.create(key, content) else "taken"

        def later() -> None:
            wire.flying.append(Flying("create", key, content))

        faults = (*CREATE, "full", "refused")
        if self._change("create", key, faults, effect, later) == "taken":
            raise AlreadyExistsError(key)

    def get(self, key: str) -> Any:
        how = self._look("get", key, ("lost", "short", "refused"))
        body = self._body(key)
        sent = body[: len(body) // 2] if how == "short" else body
        return SimpleNamespace(meta={"size": len(body)}, bytes=lambda: sent)

    def get_ranges(self, key: str, *, starts: list[int], lengths: list[int]) -> list[bytes]:
        how = self._look("get", key, ("lost", "short"))
        body = self._body(key)
        parts = [body[s : s + n] for s, n in zip(starts, lengths, strict=True)]
        if how == "short":
            parts[-1] = parts[-1][:-1]
        return parts

    def head(self, key: str) -> dict[str, Any]:
        self._look("head", key)
        return {"size": len(self._body(key))}

    def list(
        self, prefix: str | None, *, offset: str | None, chunk_size: int
    ) -> Iterator[list[dict[str, Any]]]:
        prefix, after, wire = prefix or "", offset or "", self.world.wire
        how = self._look("list", f"{prefix}>{after}" if after else prefix)
        found = wire.listing(prefix, after, hidings(wire.recent(prefix))[int(how)] if how else [])
        self.actor.hears(tuple(found))
        yield [
            {
                "path": each.key,
                "size": each.bytes,
                "last_modified": datetime.fromtimestamp(each.time_ns // SECOND, UTC),
            }
            for each in found
        ]

    def delete(self, keys: Sequence[str]) -> None:
        wire = self.world.wire

        def effect(count: int = len(keys)) -> str:
            for key in keys[:count]:
                wire.delete(key)
            return "gone"

        def later() -> None:
            wire.flying.extend(Flying("delete", key, b"") for key in keys)

        self._change("delete", " ".join(keys), DELETE, effect, later)

    def _body(self, key: str) -> bytes:
        stored = self.world.wire.objects.get(key)
        self.actor.hears(stored)
        if stored is None:
            raise FileNotFoundError(key)
        return stored.body


def retried(world: World, who: Callable[[], Actor]) -> ObstoreObjects:
    """Return objects with the retries that ship, whose clock only goes on as they wait."""
    seconds = [0.0]

    def sleep(pause: float) -> None:
        seconds[0] += pause

    patience = Patience(
        deadline_s=6, first_s=1, clock=lambda: seconds[0], sleep=sleep, chance=lambda: 1.0
    )
    return ObstoreObjects(Store(world, who), "sim://store", patience)
