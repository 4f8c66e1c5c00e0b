# XXH3 (https://github.com/Cyan4973/xxHash, spec in doc/xxhash_spec.md) without the GIL.
#
# The wheel of `xxhash` exports the whole C library from its extension module. That is undocumented,
# so: look the functions up once, prove them against the documented Python call, and use that call
# where they are missing or disagree.

cdef extern from "<dlfcn.h>" nogil:
    void* dlopen(const char* path, int mode)
    void* dlsym(void* handle, const char* name)
    int RTLD_LAZY
    int RTLD_NOLOAD

ctypedef uint64_t (*hash_function)(const void* data, size_t length) noexcept nogil
ctypedef uint64_t (*seeded_hash_function)(const void* data, size_t length,
                                          uint64_t seed) noexcept nogil

cdef extern from "Python.h":
    int PyGC_Disable()
    int PyGC_Enable()

# A sum is taken in the middle of a write. The garbage collector must not run there: a finalizer
# that writes would find the lock, which is re-entrant, and the ring half-changed.

cdef uint64_t _hash_by_call(const void* data, size_t length) noexcept nogil:
    return _seeded_hash_by_call(data, length, 0)

cdef uint64_t _seeded_hash_by_call(const void* data, size_t length,
                                   uint64_t seed) noexcept nogil:
    cdef bint collecting
    with gil:
        collecting = PyGC_Disable()
        try:
            return xxhash.xxh3_64_intdigest(
                PyMemoryView_FromMemory(<char*>data, length, PyBUF_READ), seed)
        finally:
            if collecting:
                PyGC_Enable()

cdef hash_function hash64 = _hash_by_call
cdef seeded_hash_function seeded_hash64 = _seeded_hash_by_call


cdef bint _hash_agrees(hash_function plain, seeded_hash_function seeded):
    """Compare candidates with the documented call at the lengths where XXH3 changes its path."""
    sample = bytes((7 * k + k // 251) & 0xFF for k in range(5000))
    cdef const uint8_t* data = sample
    for length in (0, 1, 3, 4, 8, 9, 16, 17, 56, 128, 129, 240, 241, 1024, 4096, 4999):
        if plain(data, length) != xxhash.xxh3_64_intdigest(sample[:length]):
            return False
        if seeded(data, length, 0x9E3779B97F4A7C15) != xxhash.xxh3_64_intdigest(
                sample[:length], 0x9E3779B97F4A7C15):
            return False
    return True


def _resolve_hash(path):
    """Use the C functions of the extension module at `path` where they hold; return which serve."""
    global hash64, seeded_hash64
    hash64, seeded_hash64 = _hash_by_call, _seeded_hash_by_call
    if path is None:
        return "call"
    cdef void* library = dlopen(os.fsencode(path), RTLD_LAZY | RTLD_NOLOAD)
    if library is NULL:
        return "call"
    cdef void* plain
    cdef void* seeded = dlsym(library, b"XXH3_64bits_withSeed")
    for name in (b"XXH3_64bits_dispatch", b"XXH3_64bits"):
        plain = dlsym(library, name)
        if plain is not NULL and seeded is not NULL:
            if _hash_agrees(<hash_function>plain, <seeded_hash_function>seeded):
                hash64, seeded_hash64 = <hash_function>plain, <seeded_hash_function>seeded
                return name.decode()
    return "call"
