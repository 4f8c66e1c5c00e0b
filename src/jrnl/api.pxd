# What Cython callers may cimport: the table of functions of include/jrnl.h, which explains them.
#
# Compile with `jrnl.get_include()` among the include directories.

from libc.stdint cimport int64_t, uint32_t, uint64_t

cdef extern from "jrnl.h":
    cdef struct jrnl_engine
    cdef struct jrnl_rewound:
        uint64_t seq
        uint64_t entries
        uint64_t bytes
    cdef struct jrnl_api:
        uint32_t version
        int (*open)(jrnl_engine** engine, uint32_t count, const uint64_t* sizes, uint64_t journal,
                    unsigned flags) noexcept nogil
        void (*close)(jrnl_engine* engine) noexcept nogil
        int (*write)(jrnl_engine* engine, uint32_t volume, uint64_t offset, const void* data,
                     uint64_t length, uint64_t* seq) noexcept nogil
        int (*write_many)(jrnl_engine* engine, uint32_t volume, const int64_t* offsets,
                          uint64_t count, const void* data, uint64_t length,
                          uint64_t* seq) noexcept nogil
        int (*discard)(jrnl_engine* engine, uint32_t volume, uint64_t offset, uint64_t length,
                       uint64_t* seq) noexcept nogil
        int (*read)(jrnl_engine* engine, uint32_t volume, uint64_t offset, void* data,
                    uint64_t length) noexcept nogil
        int (*rewind)(jrnl_engine* engine, uint64_t to, jrnl_rewound* result) noexcept nogil
        void (*window)(jrnl_engine* engine, uint64_t* oldest, uint64_t* newest) noexcept nogil
    const jrnl_api* jrnl_import() except NULL
    int JRNL_API_VERSION
    const char* JRNL_CAPSULE
    int JRNL_OK
    int JRNL_E_BOUNDS
    int JRNL_E_TOO_LARGE
    int JRNL_E_FULL
    int JRNL_E_EXPIRED
    int JRNL_E_UNKNOWN
    int JRNL_E_PINNED
    int JRNL_E_CORRUPT
    int JRNL_E_NO_MEMORY
    int JRNL_E_NO_BEFORE
    int JRNL_E_ARGUMENT
    unsigned JRNL_BEFORE
    unsigned JRNL_AFTER
    unsigned JRNL_CHECKSUM
    unsigned JRNL_REFUSE
