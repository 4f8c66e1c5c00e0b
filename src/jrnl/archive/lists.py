"""Lists of segments: what a manifest does not name itself, so that none grows with the history."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

from jrnl.archive import sealed
from jrnl.archive.manifest import SegmentFacts, list_key, rows_of, segment_facts, sum_of
from jrnl.errors import CorruptionError, FormatError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jrnl.archive.manifest import Manifest
    from jrnl.archive.objects import Objects

LISTED = 256  # segments of one list
NAMED_MOST = 512  # after the newest snapshot: then another one follows
_KIND = b"rows"
_MOST_BYTES = 16 << 20


def list_of(epoch: int, segments: Sequence[SegmentFacts]) -> tuple[SegmentFacts, bytes]:
    """Return a list of segments as a manifest names it, and the object."""
    body = sealed.seal(_KIND, json.dumps(rows_of(segments), separators=(",", ":")).encode())
    first, last = segments[0], segments[-1]
    low = min((each.low for each in segments if each.low >= 0), default=-1)
    key = list_key(epoch, first.first, last.last)
    facts = SegmentFacts(key, first.base, first.first, last.last, low, len(body), 0,
                         last.time_ns, sum_of(body))  # fmt: skip
    return facts, body


def listed(objects: Objects, facts: SegmentFacts) -> list[SegmentFacts]:
    """Return the segments of a list. Raises CorruptionError, FormatError, ArchiveError."""
    body = objects.get(facts.key, most=_MOST_BYTES)
    if sum_of(body) != facts.sum:
        raise CorruptionError(f"{facts.key} is not what the manifest says: its sum differs")
    payload = sealed.unseal(_KIND, body, facts.key, _MOST_BYTES)
    try:
        return [segment_facts(row) for row in json.loads(payload)]
    except (LookupError, RecursionError, TypeError, ValueError) as error:
        raise FormatError(f"{facts.key}: this is no list of segments: {error}") from error


def expanded(objects: Objects, manifest: Manifest) -> Manifest:
    """Return a manifest that names all of its segments itself. Raises as `listed`."""
    older = [segment for facts in manifest.lists for segment in listed(objects, facts)]
    return replace(manifest, segments=[*older, *manifest.segments], lists=[])
