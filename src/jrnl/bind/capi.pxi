# For callers in C: the table that include/jrnl.h declares. No Python object is touched in here.
#
# Takes: lock, reading, storage, lifetime

from jrnl.api cimport (
    JRNL_API_VERSION,
    JRNL_CAPSULE,
    JRNL_CHECKSUM,
    JRNL_REFUSE,
    jrnl_api,
    jrnl_engine,
    jrnl_rewound,
)


cdef int capi_open(jrnl_engine** engine, uint32_t count, const uint64_t* sizes, uint64_t journal,
                   unsigned flags) noexcept nogil:
    cdef Core* core = NULL
    cdef int images = flags & IMAGES_BOTH
    cdef uint32_t k
    cdef int status
    if count == 0 or count > VOLUMES_MAX or journal < JOURNAL_MIN_BYTES:
        return E_ARGUMENT
    if flags & ~<unsigned>(IMAGES_BOTH | JRNL_CHECKSUM | JRNL_REFUSE):
        return E_ARGUMENT
    for k in range(count):
        if sizes[k] == 0 or sizes[k] >> 63:
            return E_ARGUMENT
    status = core_create(&core, count, sizes, NULL, journal, images if images else IMAGES_BEFORE,
                         flags & JRNL_CHECKSUM != 0, flags & JRNL_REFUSE != 0)
    engine[0] = <jrnl_engine*>core
    return status


cdef void capi_close(jrnl_engine* engine) noexcept nogil:
    if engine is not NULL:
        core_destroy(<Core*>engine)


cdef inline int capi_leave(Core* core, int status, uint64_t* seq) noexcept nogil:
    if status == OK and seq is not NULL:
        seq[0] = core.ring.seq
    core_unlock(core)
    return status


cdef int capi_write(jrnl_engine* engine, uint32_t volume, uint64_t offset, const void* data,
                    uint64_t length, uint64_t* seq) noexcept nogil:
    cdef Core* core = <Core*>engine
    core_lock(core)
    return capi_leave(core, core_write(core, volume, offset, <const uint8_t*>data, length), seq)


cdef int capi_write_many(jrnl_engine* engine, uint32_t volume, const int64_t* offsets,
                         uint64_t count, const void* data, uint64_t length,
                         uint64_t* seq) noexcept nogil:
    cdef Core* core = <Core*>engine
    core_lock(core)
    return capi_leave(core, core_write_many(core, volume, offsets, count, <const uint8_t*>data,
                                            length), seq)


cdef int capi_discard(jrnl_engine* engine, uint32_t volume, uint64_t offset, uint64_t length,
                      uint64_t* seq) noexcept nogil:
    cdef Core* core = <Core*>engine
    core_lock(core)
    return capi_leave(core, core_fill_zero(core, KIND_DISCARD, volume, offset, length), seq)


cdef int capi_read(jrnl_engine* engine, uint32_t volume, uint64_t offset, void* data,
                   uint64_t length) noexcept nogil:
    cdef Core* core = <Core*>engine
    core_lock(core)
    return capi_leave(core, core_read(core, volume, offset, <uint8_t*>data, length), NULL)


cdef int capi_rewind(jrnl_engine* engine, uint64_t to, jrnl_rewound* result) noexcept nogil:
    cdef Core* core = <Core*>engine
    cdef RewindResult rewound
    cdef int status
    core_lock(core)
    status = core_rewind(core, to, False, &rewound)
    if status == OK and result is not NULL:
        result.seq = rewound.seq
        result.entries = rewound.entries
        result.bytes = rewound.bytes
    return capi_leave(core, status, NULL)


cdef void capi_window(jrnl_engine* engine, uint64_t* oldest, uint64_t* newest) noexcept nogil:
    cdef Core* core = <Core*>engine
    core_lock(core)
    oldest[0] = core.ring.base_seq
    newest[0] = core.ring.seq
    core_unlock(core)


cdef jrnl_api capi_table
capi_table.version = JRNL_API_VERSION
capi_table.open = capi_open
capi_table.close = capi_close
capi_table.write = capi_write
capi_table.write_many = capi_write_many
capi_table.discard = capi_discard
capi_table.read = capi_read
capi_table.rewind = capi_rewind
capi_table.window = capi_window

_C_API = PyCapsule_New(&capi_table, JRNL_CAPSULE, NULL)
