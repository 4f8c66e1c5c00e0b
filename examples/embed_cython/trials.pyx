# cython: language_level=3
"""A thousand trials on one volume, each from the same state, with no Python in between.

The same as examples/embed_c, by way of the .pxd files that an installed jrnl carries. To run it:

    python setup.py build_ext --inplace
    python -c "import trials; print(trials.run(1000))"

The core's functions take no lock and trust their arguments' types: a core that several threads use
is locked by its callers, with core_lock and core_unlock. This one belongs to one thread.
"""

from libc.stdint cimport uint8_t, uint64_t
from libc.string cimport memset

from jrnl._core cimport (
    E_CORRUPT,
    IMAGES_BEFORE,
    OK,
    Core,
    RewindResult,
    core_create,
    core_destroy,
    core_read,
    core_rewind,
    core_write,
)

cdef enum:
    VOLUME_BYTES = 67108864
    JOURNAL_BYTES = 4194304
    BLOCK_BYTES = 4096
    WRITES_A_TRIAL = 16


cdef int prepare(Core* core) noexcept nogil:
    """Fill the volume's first blocks, each with its own number."""
    cdef uint8_t[BLOCK_BYTES] block
    cdef int k, status
    for k in range(4 * WRITES_A_TRIAL):
        memset(block, k, BLOCK_BYTES)
        status = core_write(core, 0, k * BLOCK_BYTES, block, BLOCK_BYTES)
        if status != OK:
            return status
    return OK


cdef int try_once(Core* core, int trial, uint64_t start, RewindResult* sums) noexcept nogil:
    """Ruin some blocks, see that they are ruined, go back, see that they are whole."""
    cdef uint8_t[BLOCK_BYTES] block
    cdef RewindResult result
    cdef int k = 0, i, status
    memset(block, 0xEE, BLOCK_BYTES)
    for i in range(WRITES_A_TRIAL):
        k = (trial * 7 + i * 5) % (4 * WRITES_A_TRIAL)
        status = core_write(core, 0, k * BLOCK_BYTES, block, BLOCK_BYTES)
        if status != OK:
            return status
    memset(block, 0, BLOCK_BYTES)
    status = core_read(core, 0, k * BLOCK_BYTES, block, BLOCK_BYTES)
    if status != OK or block[0] != 0xEE:
        return status if status != OK else E_CORRUPT
    status = core_rewind(core, start, &result)
    if status == OK:
        status = core_read(core, 0, k * BLOCK_BYTES, block, BLOCK_BYTES)
    if status != OK or block[0] != k:
        return status if status != OK else E_CORRUPT
    sums.entries += result.entries
    sums.bytes += result.bytes
    return OK


cdef int run_trials(int count, RewindResult* sums, uint64_t* window) noexcept nogil:
    cdef Core* core = NULL
    cdef uint64_t size = VOLUME_BYTES, start
    cdef int trial, status
    # No memory is given, so the core maps its own and frees it.
    status = core_create(&core, 1, &size, NULL, JOURNAL_BYTES, IMAGES_BEFORE, True, False)
    if status != OK:
        return status
    status = prepare(core)
    start = core.seq
    for trial in range(count):
        if status != OK:
            break
        status = try_once(core, trial, start, sums)
    window[0] = core.base_seq
    window[1] = core.seq
    core_destroy(core)
    return status


def run(int count):
    """Make so many trials; return what their rewinds undid."""
    cdef RewindResult sums
    cdef uint64_t[2] window
    cdef int status
    memset(&sums, 0, sizeof(sums))
    with nogil:
        status = run_trials(count, &sums, window)
    if status != OK:
        raise RuntimeError(f"jrnl returned status {status}")
    return {"dropped": sums.entries, "bytes": sums.bytes, "window": (window[0], window[1])}
