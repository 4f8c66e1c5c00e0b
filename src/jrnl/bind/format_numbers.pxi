# The numbers of kernel/format.pxd for Python to read: what docs/format.md is held against.

from types import MappingProxyType


cdef dict _header_field(EntryHeader* header, void* field, size_t size):
    return {"offset": <char*>field - <char*>header, "size": size}


def _describe_header():
    """Offset and size in bytes of each field of an entry's header, as the compiler laid it out."""
    cdef EntryHeader h
    return {
        "seq": _header_field(&h, &h.seq, sizeof(h.seq)),
        "time_ns": _header_field(&h, &h.time_ns, sizeof(h.time_ns)),
        "offset": _header_field(&h, &h.offset, sizeof(h.offset)),
        "position": _header_field(&h, &h.position, sizeof(h.position)),
        "length": _header_field(&h, &h.length, sizeof(h.length)),
        "volume": _header_field(&h, &h.volume, sizeof(h.volume)),
        "kind": _header_field(&h, &h.kind, sizeof(h.kind)),
        "flags": _header_field(&h, &h.flags, sizeof(h.flags)),
        "before_sum": _header_field(&h, &h.before_sum, sizeof(h.before_sum)),
        "after_sum": _header_field(&h, &h.after_sum, sizeof(h.after_sum)),
        "header_sum": _header_field(&h, &h.header_sum, sizeof(h.header_sum)),
    }


_header = _describe_header()

FORMAT = MappingProxyType({name: MappingProxyType(numbers) for name, numbers in {
    "constants": {
        "HEADER_BYTES": HEADER_BYTES,
        "HEADER_SUMMED_BYTES": HEADER_SUMMED_BYTES,
        "IMAGE_ALIGN": IMAGE_ALIGN,
        "HEADER_SHARE": HEADER_SHARE,
        "JOURNAL_MIN_BYTES": JOURNAL_MIN_BYTES,
        "PIECE_MAX_BYTES": PIECE_MAX_BYTES,
        "PIECE_SHARE": PIECE_SHARE,
        "SNAPSHOT_BLOCK_BYTES": SNAPSHOT_BLOCK_BYTES,
        "VOLUMES_MAX": VOLUMES_MAX,
        "SECTOR_BYTES": SECTOR_BYTES,
        "LOG_BLOCK_BYTES": LOG_BLOCK_BYTES,
        "LOG_HEAD_BYTES": LOG_HEAD_BYTES,
        "GROUP_HEAD_BYTES": GROUP_HEAD_BYTES,
        "GROUP_HEADERS": GROUP_HEADERS,
        "GROUP_SUMMED_BYTES": GROUP_SUMMED_BYTES,
        "SUM_BLOCK_SUMS": SUM_BLOCK_SUMS,
    },
    "kinds": {
        "WRITE": KIND_WRITE,
        "DISCARD": KIND_DISCARD,
        "ZEROES": KIND_ZEROES,
        "MARK": KIND_MARK,
        "FLUSH": KIND_FLUSH,
        "REWIND": KIND_REWIND,
    },
    "flags": {
        "BEFORE": FLAG_BEFORE,
        "AFTER": FLAG_AFTER,
        "BEFORE_ZERO": FLAG_BEFORE_ZERO,
        "AFTER_ZERO": FLAG_AFTER_ZERO,
        "SUMMED": FLAG_SUMMED,
        "SECTORS": FLAG_SECTORS,
        "GROUP": FLAG_GROUP,
    },
    "header_offsets": {name: field["offset"] for name, field in _header.items()},
    "header_sizes": {name: field["size"] for name, field in _header.items()}
    | {"EntryHeader": sizeof(EntryHeader)},
}.items()})
