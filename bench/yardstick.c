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

/* The second yardstick: memcpy moves with the libc, these loops do not. Each pass keeps the old
 * line in the ring, past the cache, and puts the new one in its place. Ring and lengths are of
 * whole lines of 64 bytes; shorter writes are of whole words and go through the cache. */
typedef void (*pass_fn)(uint8_t *ring, uint8_t *volume, const uint8_t *data, uint64_t length);

static void pass_words(uint8_t *ring, uint8_t *volume, const uint8_t *data, uint64_t length)
{
    for (uint64_t k = 0; k < length; k += 8) {
        uint64_t old, new;
        memcpy(&old, volume + k, 8);
        memcpy(&new, data + k, 8);
        memcpy(ring + k, &old, 8);
        memcpy(volume + k, &new, 8);
    }
}

#if defined(__x86_64__)
#include <immintrin.h>

#define PASS(name, instructions, vector, load, store, stream)                                      \
    __attribute__((target(instructions))) static void name(                                        \
        uint8_t *ring, uint8_t *volume, const uint8_t *data, uint64_t length)                      \
    {                                                                                              \
        for (uint64_t k = 0; k < length; k += sizeof(vector)) {                                    \
            vector old = load((void *)(volume + k)), new = load((void *)(data + k));               \
            stream((void *)(ring + k), old);                                                       \
            store((void *)(volume + k), new);                                                      \
        }                                                                                          \
    }
PASS(pass_sse2, "sse2", __m128i, _mm_loadu_si128, _mm_storeu_si128, _mm_stream_si128)
PASS(pass_avx2, "avx2", __m256i, _mm256_loadu_si256, _mm256_storeu_si256, _mm256_stream_si256)
PASS(pass_avx512, "avx512f", __m512i, _mm512_loadu_si512, _mm512_storeu_si512, _mm512_stream_si512)

static pass_fn pass_of(int kind)
{
    __builtin_cpu_init();
    switch (kind) {
    case 0: return __builtin_cpu_supports("avx512f") ? pass_avx512 : 0;
    case 1: return __builtin_cpu_supports("avx2") ? pass_avx2 : 0;
    default: return pass_sse2;
    }
}
#else
static pass_fn pass_of(int kind)
{
    return kind == 2 ? pass_words : 0;
}
#endif

int yard_has_kernel(int kind)
{
    return pass_of(kind) != 0;
}

/* Look ahead: the pages of eight blocks at a time, of sixteen at the start; all of the next block.
 * The assembly keeps calls that GCC may drop: a function that only prefetches has no effect in its
 * eyes. */
static void look_ahead(const uint8_t *volume, const int64_t *offsets, uint64_t i, uint64_t n,
                       uint64_t length)
{
    __asm__ volatile("");
    if (i % 8 == 0)
        for (uint64_t j = i ? i + 8 : 0; j < i + 16 && j < n; j++)
            for (uint64_t k = 0; k < (length < 512 ? length : 1); k += 64)
                __builtin_prefetch(volume + offsets[j] + k, 0, 2);
    if (i + 1 < n && length >= 512)
        for (uint64_t k = 0; k < length && k < 4096; k += 64)
            __builtin_prefetch(volume + offsets[i + 1] + k, 0, 2);
}

/* yard_write with fixed kernels: by the call (`batch` 1), or with a look ahead in each batch. */
uint64_t yard_write_fixed(int kind, uint8_t *volume, uint8_t *ring, uint64_t ring_bytes,
                          uint64_t *ring_at, const int64_t *offsets, uint64_t n,
                          const uint8_t *rows, uint64_t row_count, uint64_t length, uint64_t batch)
{
    uint64_t at = *ring_at, row = 0, start = now_ns();
    pass_fn pass = length % 64 ? pass_words : pass_of(kind);
    for (uint64_t i = 0; i < n; i++) {
        if (batch > 1) {
            uint64_t first = i - i % batch, end = first + batch < n ? first + batch : n;
            look_ahead(volume, offsets + first, i - first, end - first, length);
        }
        at = (at + 63) & ~(uint64_t)63;
        if (at + length > ring_bytes)
            at = 0;
        pass(ring + at, volume + (uint64_t)offsets[i], rows + row * length, length);
        at += length;
        row = row + 1 == row_count ? 0 : row + 1;
    }
    *ring_at = at;
    return now_ns() - start;
}

/* yard_write with both images: the old block into the ring, the new one behind it and in place. */
uint64_t yard_write_both(uint8_t *volume, uint8_t *ring, uint64_t ring_bytes, uint64_t *ring_at,
                         const int64_t *offsets, uint64_t n, const uint8_t *rows,
                         uint64_t row_count, uint64_t length)
{
    uint64_t at = *ring_at, row = 0, start = now_ns();
    for (uint64_t i = 0; i < n; i++) {
        const uint8_t *data = rows + row * length;
        if (at + 2 * length > ring_bytes)
            at = 0;
        memcpy(ring + at, volume + (uint64_t)offsets[i], length);
        memcpy(ring + at + length, data, length);
        memcpy(volume + (uint64_t)offsets[i], data, length);
        at += 2 * length;
        row = row + 1 == row_count ? 0 : row + 1;
    }
    *ring_at = at;
    return now_ns() - start;
}

/* yard_write with a clock around each write: laps[i] is what write i took, with one clock read. */
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
