# Memory: anonymous mappings that cost only the pages that are touched, and callers' own buffers.
#
# Takes: kernels

cdef extern from *:
    """
    #include <errno.h>
    #include <sys/mman.h>

    /* Give the pages out at once: one by one, each costs more than filling it. */
    static int jrnl_populate(void *start, size_t size)
    {
    #ifndef MADV_POPULATE_WRITE
    #define MADV_POPULATE_WRITE 23
    #endif
        return madvise(start, size, MADV_POPULATE_WRITE) == 0 ? 0 : errno;
    }
    """
    int jrnl_populate(void* start, size_t size) noexcept nogil

cdef extern from "<sys/mman.h>" nogil:
    void* mmap(void* addr, size_t length, int prot, int flags, int fd, int64_t offset)
    int munmap(void* addr, size_t length)
    int madvise(void* addr, size_t length, int advice)
    int PROT_READ
    int PROT_WRITE
    int MAP_PRIVATE
    int MAP_ANONYMOUS
    int MAP_NORESERVE
    int MADV_HUGEPAGE
    int MADV_NOHUGEPAGE
    int MADV_FREE
    int MADV_DONTNEED
    void* MAP_FAILED

cdef extern from "<unistd.h>" nogil:
    long sysconf(int name)
    int _SC_PHYS_PAGES
    int _SC_PAGESIZE

cdef enum:
    HUGE_MIN_BYTES = 4194304     # below this a mapping gains nothing from huge pages
    HUGE_BYTES = 2097152


cdef uint8_t* map_memory(uint64_t size, bint huge) noexcept nogil:
    """Zeroed memory of `size` bytes, or NULL. Pages are given out when they are first touched."""
    if size > <uint64_t>0x7FFFFFFFFFFFF000:
        return NULL
    cdef void* memory = mmap(NULL, size if size else 1, PROT_READ | PROT_WRITE,
                             MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0)
    if memory == MAP_FAILED:
        return NULL
    if huge and size >= HUGE_MIN_BYTES:
        madvise(memory, size, MADV_HUGEPAGE)
    return <uint8_t*>memory


cdef inline void begin_small(void* memory, uint64_t size) noexcept nogil:
    """Have the first bytes of a mapping in small pages: who needs few takes no more."""
    madvise(memory, size if size < HUGE_BYTES else HUGE_BYTES, MADV_NOHUGEPAGE)


cdef inline uint64_t page_bytes(uint64_t size) noexcept nogil:
    """How much of a mapping of `size` bytes it is best to touch, or to give back, at once."""
    return HUGE_BYTES if size >= HUGE_MIN_BYTES else <uint64_t>sysconf(_SC_PAGESIZE)


cdef void unmap_memory(uint8_t* memory, uint64_t size) noexcept nogil:
    if memory is not NULL:
        munmap(memory, size if size else 1)


cdef bint fits_in_huge_pages(uint64_t size) noexcept nogil:
    """Huge pages make random writes about a tenth faster, and make each first touch cost 2 MiB.

    So: not for a volume that is large beside the machine's memory, which is likely to be sparse.
    """
    cdef long pages = sysconf(_SC_PHYS_PAGES)
    return pages > 0 and size <= <uint64_t>pages * <uint64_t>sysconf(_SC_PAGESIZE) // 4


cdef str _buffer_advice(data, int flags):
    """What to do about an array that cannot be used as a buffer."""
    if getattr(getattr(data, "dtype", None), "kind", None) in ("M", "m"):
        return "NumPy lends no times as bytes: pass array.view('i8'), the same bytes as integers"
    if flags & PyBUF_WRITABLE:
        return "pass a writable, C-contiguous one, such as a bytearray or numpy.empty(n, 'u1')"
    return "it must be C-contiguous (numpy.ascontiguousarray makes a copy that is)"


cdef inline void touch(VolumeMemory* volume, uint64_t offset, uint64_t length) noexcept nogil:
    cdef uint64_t chunk = offset >> CHUNK_SHIFT
    cdef uint64_t last = (offset + length - 1) >> CHUNK_SHIFT
    while chunk <= last:
        volume.touched[chunk] = 1
        chunk += 1


cdef bint is_own(const VolumeMemory* volume, uint64_t start, uint64_t stop) noexcept nogil:
    """Whether a fork has all of a range itself."""
    cdef uint64_t block
    for block in range(start >> BLOCK_SHIFT, ((stop - 1) >> BLOCK_SHIFT) + 1):
        if not volume.own[block]:
            return False
    return True


cdef bint all_zero(const VolumeMemory* volume, uint64_t offset, uint64_t length) noexcept nogil:
    """Whether a range reads as zeroes; chunks that were never written are not looked at."""
    cdef uint64_t end = offset + length, stop
    cdef const uint8_t* data
    while offset < end:
        stop = ((offset >> CHUNK_SHIFT) + 1) << CHUNK_SHIFT
        if stop > end:
            stop = end
        if volume.touched[offset >> CHUNK_SHIFT]:
            if volume.own is not NULL and not is_own(volume, offset, stop):
                return False    # its source would have to be read
            data = volume.data + offset
            if data[0] or memcmp(data, data + 1, stop - offset - 1):
                return False
        offset = stop
    return True


cdef uint64_t touched_bytes(const VolumeMemory* volumes, uint32_t volume, uint64_t offset,
                            uint64_t length) noexcept nogil:
    """Bytes of a range that may be anything but zeroes, in whole chunks."""
    cdef uint64_t chunk, total = 0
    for chunk in range(offset >> CHUNK_SHIFT, ((offset + length - 1) >> CHUNK_SHIFT) + 1):
        total += <uint64_t>volumes[volume].touched[chunk] << CHUNK_SHIFT
    return total


cdef bint is_zero(const uint8_t* data, uint64_t length) noexcept nogil:
    return length == 0 or (data[0] == 0 and memcmp(data, data + 1, length - 1) == 0)


# Not cleared by the collector: a cycle through the buffer's owner would leave it exported for good.
@cython.no_gc_clear
cdef class MemoryDevice:
    """Bytes in memory behind the device interface: ``size``, ``pread``, ``pwrite``, ``sync``.

    Made with a size in bytes it maps zeroed memory, in pages that are not `huge` where few of them
    will be touched; :meth:`adopt` takes a caller's writable buffer.
    The memory lives as long as anything exported from it.
    """

    def __cinit__(self):
        self.data = NULL
        self.mapped = False

    def __init__(self, uint64_t size, bint huge=True):
        self.data = map_memory(size, huge and fits_in_huge_pages(size))
        if self.data is NULL:
            raise MemoryError(f"no address space for {size} bytes; ask for a smaller size")
        self.length = size
        self.mapped = True

    @staticmethod
    def adopt(buffer):
        """Take `buffer`, writable and C-contiguous, without a copy; it stays exported meanwhile."""
        cdef MemoryDevice device = MemoryDevice.__new__(MemoryDevice)
        try:
            PyObject_GetBuffer(buffer, &device.view, PyBUF_C_CONTIGUOUS | PyBUF_FORMAT
                               | PyBUF_WRITABLE)
        except TypeError as error:
            raise InvalidType(f"{type(buffer).__name__} has no buffer to adopt; pass a bytearray, "
                              "a writable memoryview or a NumPy array") from error
        except (BufferError, ValueError) as error:
            advice = "it must be writable and C-contiguous"
            if getattr(getattr(buffer, "dtype", None), "kind", None) in ("M", "m"):
                advice = _buffer_advice(buffer, PyBUF_WRITABLE)
            raise InvalidArgument(f"the buffer cannot be adopted: {error}; {advice}") from error
        device.owner = buffer
        device.data = <uint8_t*>device.view.buf
        device.length = device.view.len
        if _holds_objects(&device.view):
            raise InvalidType("the buffer holds Python objects, not bytes")
        return device

    def __dealloc__(self):
        if self.mapped:
            unmap_memory(self.data, self.length)
        PyBuffer_Release(&self.view)    # nothing where no buffer was adopted

    def __getbuffer__(self, Py_buffer* buffer, int flags):
        PyBuffer_FillInfo(buffer, self, self.data, self.length, 0, flags)

    @property
    def size(self):
        """int: bytes."""
        return self.length

    def pread(self, uint64_t offset, uint64_t length):
        """bytes: the `length` bytes at `offset`, fewer at the end."""
        if offset >= self.length:
            return b""
        return PyBytes_FromStringAndSize(<char*>self.data + offset,
                                         min(length, self.length - offset))

    def pwrite(self, uint64_t offset, const uint8_t[::1] data):
        """int: how many bytes of `data` were stored at `offset`."""
        if offset > self.length or <uint64_t>data.shape[0] > self.length - offset:
            raise OutOfBounds(f"{data.shape[0]} bytes at {offset} end past {self.length}")
        if data.shape[0]:
            memcpy(self.data + offset, &data[0], data.shape[0])
        return data.shape[0]

    def sync(self):
        """Memory is as durable as it gets: nothing to do."""


cdef bint _holds_objects(const Py_buffer* view) noexcept:
    """Whether the items are object pointers, whose bytes must never be taken for data."""
    cdef const char* code = view.format
    cdef bint named = False     # inside a field's name, which stands between two colons
    if code is NULL:
        return False
    while code[0]:
        if code[0] == b":":
            named = not named
        elif code[0] == b"O" and not named:
            return True
        code += 1
    return False


cdef void copy_touched(const VolumeMemory* volume, uint64_t begin, uint64_t stop,
                       uint8_t* target) noexcept nogil:
    cdef uint64_t chunk, start, length
    for chunk in range(begin >> CHUNK_SHIFT, ((stop - 1) >> CHUNK_SHIFT) + 1):
        if volume.touched[chunk]:
            start = chunk << CHUNK_SHIFT
            length = volume.size - start
            if length > 1 << CHUNK_SHIFT:
                length = 1 << CHUNK_SHIFT
            stream_copy(target + start, volume.data + start, length)
    jrnl_stream_fence()
