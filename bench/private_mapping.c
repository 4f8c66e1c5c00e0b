/* Going back with the kernel's help: dirty a private mapping of a file in memory, drop the dirty
 * pages with MADV_DONTNEED, touch the blocks again. Every dirty page costs a fault on the way out
 * and one on the way back; only the way back is timed, as for the others.
 */
#define _GNU_SOURCE
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* A sparse file in memory, mapped private. Only the blocks of a round ever get a page: a kindness
 * to this method, since MADV_DONTNEED has the fewer page-table entries to visit. */
int private_open(uint64_t bytes, int *fd, uint8_t **mapping)
{
    *fd = memfd_create("jrnl-bench", MFD_CLOEXEC);
    if (*fd < 0)
        return -1;
    if (ftruncate(*fd, (off_t)bytes) != 0)
        return -1;
    *mapping = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_NORESERVE, *fd, 0);
    return *mapping == MAP_FAILED ? -1 : 0;
}

/* The file's own content of the blocks to come, and the pages read once, as after some use. */
int private_prepare(int fd, const uint8_t *mapping, const int64_t *offsets, uint64_t n,
                    const uint8_t *block, uint64_t length)
{
    volatile uint8_t seen = 0;
    for (uint64_t i = 0; i < n; i++) {
        if (pwrite(fd, block, length, (off_t)offsets[i]) != (ssize_t)length)
            return -1;
        seen += mapping[offsets[i]];
    }
    return 0;
}

void private_dirty(uint8_t *mapping, const int64_t *offsets, uint64_t n, const uint8_t *dirt,
                   uint64_t length)
{
    for (uint64_t i = 0; i < n; i++)
        memcpy(mapping + offsets[i], dirt, length);
}

/* The way back. Returns how many blocks do not start as the file has them. */
uint64_t private_return(uint8_t *mapping, uint64_t bytes, const int64_t *offsets, uint64_t n,
                        uint8_t first_byte)
{
    uint64_t wrong = 0;
    if (madvise(mapping, bytes, MADV_DONTNEED) != 0)
        return n;
    for (uint64_t i = 0; i < n; i++)
        wrong += *(volatile uint8_t *)(mapping + offsets[i]) != first_byte;
    return wrong;
}

/* Gives the blocks' pages back to the system, so that rounds do not pile up. */
int private_forget(int fd, uint64_t bytes)
{
    return ftruncate(fd, 0) == 0 && ftruncate(fd, (off_t)bytes) == 0 ? 0 : -1;
}

void private_close(int fd, uint8_t *mapping, uint64_t bytes)
{
    munmap(mapping, bytes);
    close(fd);
}
