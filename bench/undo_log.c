/* Intel's libpmemobj undo log on the same work: the block's range is added to a transaction (the
 * library saves it to its log), the new data copied over it, and the commit flushes cache lines.
 * The log lasts as long as its transaction: no history is kept, so this does less than a journal.
 */
#include <libpmemobj.h>
#include <stdint.h>
#include <string.h>
#include <time.h>

static uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

PMEMobjpool *undo_log_open(const char *path, uint64_t pool_bytes)
{
    return pmemobj_create(path, "jrnl-bench", pool_bytes, 0600);
}

uint8_t *undo_log_volume(PMEMobjpool *pool, uint64_t bytes)
{
    PMEMoid root = pmemobj_root(pool, bytes);
    return OID_IS_NULL(root) ? NULL : pmemobj_direct(root);
}

/* A function of its own: TX_BEGIN is a setjmp, after which the caller's locals can't be trusted. */
static int write_transaction(PMEMobjpool *pool, uint8_t *volume, const int64_t *offsets,
                             uint64_t n, const uint8_t *block, uint64_t length)
{
    volatile int failed = 0;
    TX_BEGIN(pool) {
        for (uint64_t i = 0; i < n; i++) {
            pmemobj_tx_add_range_direct(volume + offsets[i], length);
            memcpy(volume + offsets[i], block, length);
        }
    } TX_ONABORT {
        failed = 1;
    } TX_END
    return failed;
}

/* n writes, `batch` to a transaction. Returns nanoseconds, 0 after an aborted transaction. */
uint64_t undo_log_write(PMEMobjpool *pool, uint8_t *volume, const int64_t *offsets, uint64_t n,
                        uint64_t batch, const uint8_t *block, uint64_t length)
{
    uint64_t start = now_ns();
    for (uint64_t i = 0; i < n; i += batch)
        if (write_transaction(pool, volume, offsets + i, n - i < batch ? n - i : batch, block,
                              length))
            return 0;
    return now_ns() - start;
}

void undo_log_close(PMEMobjpool *pool)
{
    pmemobj_close(pool);
}
