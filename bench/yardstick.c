/* The yardsticks: what a C programmer would write by hand for each job, with nothing else in it.
 *
 * No checks, no headers, no checksums, no clock but the two reads around a loop. Each function
 * returns the nanoseconds its own loop took, so that no Python is in the figure.
 */
#include <stdint.h>
#include <string.h>
#include <time.h>

static uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* The old block into the ring, the new block over it. Returns where the next image goes. */
static inline uint64_t save_and_write(uint8_t *volume, uint8_t *ring, uint64_t ring_bytes,
                                      uint64_t at, uint64_t offset, const uint8_t *data,
                                      uint64_t length)
{
    if (at + length > ring_bytes)
        at = 0;
    memcpy(ring + at, volume + offset, length);
    memcpy(volume + offset, data, length);
    return at + length;
}

/* n journaled writes; write i takes its data from row i % row_count. */
uint64_t yard_write(uint8_t *volume, uint8_t *ring, uint64_t ring_bytes, uint64_t *ring_at,
                    const int64_t *offsets, uint64_t n, const uint8_t *rows, uint64_t row_count,
                    uint64_t length)
{
    uint64_t at = *ring_at, row = 0, start = now_ns();
    for (uint64_t i = 0; i < n; i++) {
        at = save_and_write(volume, ring, ring_bytes, at, (uint64_t)offsets[i],
                            rows + row * length, length);
        row = row + 1 == row_count ? 0 : row + 1;
    }
    *ring_at = at;
    return now_ns() - start;
}

/* The same with a clock around each write: laps[i] is what write i took, one clock read with it. */
void yard_write_laps(uint8_t *volume, uint8_t *ring, uint64_t ring_bytes, uint64_t *ring_at,
                     const int64_t *offsets, uint64_t n, const uint8_t *rows, uint64_t row_count,
                     uint64_t length, int64_t *laps)
{
    uint64_t at = *ring_at, row = 0;
    for (uint64_t i = 0; i < n; i++) {
        uint64_t start = now_ns();
        at = save_and_write(volume, ring, ring_bytes, at, (uint64_t)offsets[i],
                            rows + row * length, length);
        laps[i] = (int64_t)(now_ns() - start);
        row = row + 1 == row_count ? 0 : row + 1;
    }
    *ring_at = at;
}

/* Recovery's yardstick: ring block sources[i] to image + offsets[i], each target once. */
uint64_t yard_scatter(uint8_t *image, const uint8_t *ring, const int64_t *sources,
                      const int64_t *offsets, uint64_t n, uint64_t length)
{
    uint64_t start = now_ns();
    for (uint64_t i = 0; i < n; i++)
        memcpy(image + offsets[i], ring + (uint64_t)sources[i] * length, length);
    return now_ns() - start;
}

/* Rewind's yardstick: image i of the ring belongs to offsets[i]; newest first, each block once. */
uint64_t yard_undo(uint8_t *volume, const uint8_t *ring, const int64_t *offsets, uint64_t n,
                   uint64_t length)
{
    uint64_t start = now_ns();
    for (uint64_t i = n; i-- > 0;)
        memcpy(volume + offsets[i], ring + i * length, length);
    return now_ns() - start;
}

/* The blunt way back: the pristine copy over the volume, repeated where it is shorter. */
uint64_t yard_whole_copy(uint8_t *volume, uint64_t volume_bytes, const uint8_t *pristine,
                         uint64_t pristine_bytes)
{
    uint64_t start = now_ns();
    for (uint64_t at = 0; at < volume_bytes; at += pristine_bytes)
        memcpy(volume + at, pristine, pristine_bytes);
    return now_ns() - start;
}
