# cython: language_level=3
"""A thousand trials on one volume, each from the same state, with no Python in between.

The same as examples/embed_c, by way of the api.pxd that an installed jrnl carries. To run it:

    python setup.py build_ext --inplace
    python -c "import trials; print(trials.run(1000))"

An engine is opaque; every call locks it, so several threads may use one.
"""

from libc.stdint cimport uint8_t, uint64_t
from libc.string cimport memset

from jrnl.api cimport (
    JRNL_BEFORE,
    JRNL_CHECKSUM,
    JRNL_E_CORRUPT,
    JRNL_OK,
    jrnl_api,
    jrnl_engine,
    jrnl_import,
    jrnl_rewound,
)

cdef enum:
    VOLUME_BYTES = 67108864
    JOURNAL_BYTES = 4194304
    BLOCK_BYTES = 4096
    WRITES_A_TRIAL = 16

cdef const jrnl_api* jrnl = jrnl_import()


cdef int prepare(jrnl_engine* engine, uint64_t* start) noexcept nogil:
    """Fill the volume's first blocks, each with its own number."""
    cdef uint8_t[BLOCK_BYTES] block
    cdef int k, status
    for k in range(4 * WRITES_A_TRIAL):
        memset(block, k, BLOCK_BYTES)
        status = jrnl.write(engine, 0, k * BLOCK_BYTES, block, BLOCK_BYTES, start)
        if status != JRNL_OK:
            return status
    return JRNL_OK


cdef int try_once(jrnl_engine* engine, int trial, uint64_t start,
                  jrnl_rewound* sums) noexcept nogil:
    """Ruin some blocks, see that they are ruined, go back, see that they are whole."""
    cdef uint8_t[BLOCK_BYTES] block
    cdef jrnl_rewound result
    cdef int k = 0, i, status
    memset(block, 0xEE, BLOCK_BYTES)
    for i in range(WRITES_A_TRIAL):
        k = (trial * 7 + i * 5) % (4 * WRITES_A_TRIAL)
        status = jrnl.write(engine, 0, k * BLOCK_BYTES, block, BLOCK_BYTES, NULL)
        if status != JRNL_OK:
            return status
    memset(block, 0, BLOCK_BYTES)
    status = jrnl.read(engine, 0, k * BLOCK_BYTES, block, BLOCK_BYTES)
    if status != JRNL_OK or block[0] != 0xEE:
        return status if status != JRNL_OK else JRNL_E_CORRUPT
    status = jrnl.rewind(engine, start, &result)
    if status == JRNL_OK:
        status = jrnl.read(engine, 0, k * BLOCK_BYTES, block, BLOCK_BYTES)
    if status != JRNL_OK or block[0] != k:
        return status if status != JRNL_OK else JRNL_E_CORRUPT
    sums.entries += result.entries
    sums.bytes += result.bytes
    return JRNL_OK


cdef int run_trials(int count, jrnl_rewound* sums, uint64_t* window) noexcept nogil:
    cdef jrnl_engine* engine = NULL
    cdef uint64_t size = VOLUME_BYTES, start = 0
    cdef int trial, status
    status = jrnl.open(&engine, 1, &size, JOURNAL_BYTES, JRNL_BEFORE | JRNL_CHECKSUM)
    if status != JRNL_OK:
        return status
    status = prepare(engine, &start)
    for trial in range(count):
        if status != JRNL_OK:
            break
        status = try_once(engine, trial, start, sums)
    jrnl.window(engine, &window[0], &window[1])
    jrnl.close(engine)
    return status


def run(int count):
    """Make so many trials; return what their rewinds undid."""
    cdef jrnl_rewound sums
    cdef uint64_t[2] window
    cdef int status
    memset(&sums, 0, sizeof(sums))
    with nogil:
        status = run_trials(count, &sums, window)
    if status != JRNL_OK:
        raise RuntimeError(f"jrnl returned status {status}")
    return {"dropped": sums.entries, "bytes": sums.bytes, "window": (window[0], window[1])}
