# Which kernels of kernels.h move the bytes: chosen once, held against xxhash before they serve.
#
# Takes: hash

cdef extern from "kernels.h" nogil:
    ctypedef struct KernelWrite "struct jrnl_write":
        uint8_t* before
        uint8_t* after
        uint8_t* target
        const uint8_t* data
        size_t length
        size_t ahead
        uint64_t* before_sum
        uint64_t* after_sum
    ctypedef struct Kernels "struct jrnl_kernels":
        const char* name
        void (*write)(const KernelWrite* write, bint stream) noexcept nogil
        uint64_t (*copy_sum)(uint8_t* target, const uint8_t* source, size_t length,
                             const uint8_t* next, bint stream) noexcept nogil
        uint64_t (*sum)(const uint8_t* source, size_t length, const uint8_t* next) noexcept nogil
        void (*copy)(uint8_t* target, const uint8_t* source, size_t length) noexcept nogil
        void (*stream)(uint8_t* target, const uint8_t* source, size_t length) noexcept nogil
    const Kernels* jrnl_kernels_at(int place)    # NULL behind the last
    bint jrnl_kernels_run(const Kernels* kernels)
    void jrnl_prefetch(const uint8_t* at, size_t length)
    void jrnl_prefetch_far(const uint8_t* at, size_t length)
    void jrnl_prefetch_page(const uint8_t* at)
    void jrnl_stream_fence()
    size_t JRNL_SUM_MIN_BYTES
    size_t JRNL_COPY_MIN_BYTES
    size_t JRNL_AHEAD_BYTES

cdef const Kernels* kernels = NULL    # NULL: none agrees with xxhash, whose own sums serve


cdef inline void copy_block(uint8_t* target, const uint8_t* source, uint64_t length) noexcept nogil:
    """Between ranges that do not overlap, at any addresses."""
    if kernels is not NULL and length >= JRNL_COPY_MIN_BYTES:
        kernels.copy(target, source, length)
    else:
        memcpy(target, source, length)


cdef inline void stream_copy(uint8_t* target, const uint8_t* source,
                             uint64_t length) noexcept nogil:
    """The same past the cache; jrnl_stream_fence() after the last one."""
    if kernels is not NULL and length >= JRNL_COPY_MIN_BYTES:
        kernels.stream(target, source, length)
    else:
        memcpy(target, source, length)


cdef inline uint64_t copy_and_sum(uint8_t* target, const uint8_t* source, uint64_t length,
                                  const uint8_t* next, bint stream) noexcept nogil:
    """Copy to a line's boundary, and sum. `next` is what will be read then, or NULL."""
    if kernels is not NULL and length >= JRNL_SUM_MIN_BYTES:
        return kernels.copy_sum(target, source, length, next, stream)
    memcpy(target, source, length)
    return hash64(target, length)


cdef inline uint64_t sum_before(const uint8_t* source, uint64_t length,
                                const uint8_t* next) noexcept nogil:
    """The sum of a range, while `next`, which is as long, is on its way to the cache."""
    if kernels is not NULL and length >= JRNL_SUM_MIN_BYTES:
        return kernels.sum(source, length, next)
    return hash64(source, length)


# Held against the documented call: around each length where a sum ends differently, at odd and even
# addresses, through the cache and past it.

cdef tuple _TRIED_LENGTHS = (241, 255, 256, 257, 319, 320, 321, 1023, 1024, 1025, 1088, 1089, 2047,
                             2048, 2049, 4096, 5000)
cdef tuple _TRIED_SHIFTS = (0, 1, 40)


cdef bint _write_agrees(const Kernels* candidate, uint8_t* room, bytes old, bytes new, int shift,
                        bint stream) except -1:
    """One write with both images, in `room`: four parts of 8 KiB."""
    cdef KernelWrite write
    cdef uint64_t before_sum = 0, after_sum = 0, length = len(old)
    write.before = room
    write.after = room + 8192
    write.target = room + 16384 + shift
    write.data = room + 24576 + 63 - shift
    write.length = length
    write.ahead = length // 2
    write.before_sum = &before_sum
    write.after_sum = &after_sum
    memset(room, 0, 16384)
    memcpy(write.target, <const char*>old, length)
    memcpy(<uint8_t*>write.data, <const char*>new, length)
    candidate.write(&write, stream)
    jrnl_stream_fence()
    return (memcmp(write.before, <const char*>old, length) == 0 and write.before[length] == 0
            and memcmp(write.after, <const char*>new, length) == 0 and write.after[length] == 0
            and memcmp(write.target, <const char*>new, length) == 0
            and before_sum == <uint64_t>xxhash.xxh3_64_intdigest(old)
            and after_sum == <uint64_t>xxhash.xxh3_64_intdigest(new))


cdef bint _copy_agrees(const Kernels* candidate, uint8_t* room, bytes old, int shift,
                       bint stream) except -1:
    cdef uint64_t length = len(old)
    cdef uint8_t* source = room + 16384 + shift
    cdef uint8_t* odd = room + 24576 + 63 - shift
    memset(room, 0, 8192)
    memset(odd - 1, 0, length + 2)
    memcpy(source, <const char*>old, length)
    if candidate.copy_sum(room, source, length, source, stream) != xxhash.xxh3_64_intdigest(old):
        return False
    if candidate.sum(source, length, NULL) != xxhash.xxh3_64_intdigest(old):
        return False
    if stream:
        candidate.stream(odd, source, length)
    else:
        candidate.copy(odd, source, length)
    jrnl_stream_fence()
    return (memcmp(room, <const char*>old, length) == 0 and room[length] == 0
            and memcmp(odd, <const char*>old, length) == 0
            and (odd - 1)[0] == 0 and odd[length] == 0)


cdef bint _kernels_agree(const Kernels* candidate) except -1:
    random = numpy.random.default_rng(1)
    memory = bytearray(4 * 8192 + 64)
    cdef uint8_t* room = memory
    room += -<uint64_t>room & 63
    for length in _TRIED_LENGTHS:
        old, new = random.bytes(length), random.bytes(length)
        for shift in _TRIED_SHIFTS:
            for stream in (False, True):
                if not (_write_agrees(candidate, room, old, new, shift, stream)
                        and _copy_agrees(candidate, room, old, shift, stream)):
                    return False
    return True


def _choose_kernels(name=None):
    """Use the best kernels that this processor runs, or those of that name; return their name.

    Raises InvalidArgument for a name that cannot serve. "none" is what serves where none agrees
    with xxhash, which then sums the bytes itself.
    """
    global kernels
    cdef int place = 0
    names = _kernel_names(False)
    if name not in (None, "none", *names):
        raise InvalidArgument(f"JRNL_KERNEL={name}: this build has {', '.join(names)}")
    if name in names and name not in _kernel_names(True):
        raise InvalidArgument(f"JRNL_KERNEL={name}: this processor cannot run it; it can run "
                              + ", ".join(_kernel_names(True)))
    kernels = NULL
    for place, known in enumerate(names):
        if name not in (None, known) or not jrnl_kernels_run(jrnl_kernels_at(place)):
            continue
        if _kernels_agree(jrnl_kernels_at(place)):
            kernels = jrnl_kernels_at(place)
            return known
        if name is not None:
            raise InvalidArgument(f"JRNL_KERNEL={name}: its sums are not those of xxhash here")
        warnings.warn(f"jrnl's {known} kernel disagrees with xxhash and is not used; please "
                      "report this, with the processor's name", RuntimeWarning, stacklevel=2)
    return "none"


def _kernel_names(bint runnable=True):
    """list of str: the kernels of this build, or those that run here, the best one first."""
    cdef int place = 0
    names = []
    while jrnl_kernels_at(place) is not NULL:
        if not runnable or jrnl_kernels_run(jrnl_kernels_at(place)):
            names.append(jrnl_kernels_at(place).name.decode())
        place += 1
    return names
