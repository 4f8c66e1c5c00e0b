/* Copy kernels that go past the cache, chosen at run time by what the processor has.
 *
 * A before-image is written once and read rarely: streaming stores keep it from evicting the
 * working set, and spare the read of the destination line that an ordinary store needs.
 * The destination is aligned to 64 bytes and owns the room up to the next multiple of 64.
 */
#ifndef JRNL_STREAM_H
#define JRNL_STREAM_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

typedef void (*jrnl_stream_fn)(uint8_t *dst, const uint8_t *src, size_t length);

/* For a range that is about to be overwritten. */
static inline void jrnl_prefetch(const uint8_t *at, size_t length)
{
    for (size_t k = 0; k < length; k += 64)
        __builtin_prefetch(at + k, 1, 3);
}

/* For a range that is about to be read once. */
static inline void jrnl_prefetch_read(const uint8_t *at, size_t length)
{
    for (size_t k = 0; k < length; k += 64)
        __builtin_prefetch(at + k, 0, 2);
}

static void jrnl_stream_plain(uint8_t *dst, const uint8_t *src, size_t length)
{
    memcpy(dst, src, length);
}

#if defined(__x86_64__) && defined(__GNUC__)
#include <cpuid.h>
#include <immintrin.h>

__attribute__((target("avx2")))
static void jrnl_stream_avx2(uint8_t *dst, const uint8_t *src, size_t length)
{
    size_t k = 0;
    for (; k + 64 <= length; k += 64) {
        __m256i a = _mm256_loadu_si256((const __m256i *)(src + k));
        __m256i b = _mm256_loadu_si256((const __m256i *)(src + k + 32));
        _mm256_stream_si256((__m256i *)(dst + k), a);
        _mm256_stream_si256((__m256i *)(dst + k + 32), b);
    }
    if (k < length)
        memcpy(dst + k, src + k, length - k);
}

__attribute__((target("avx512f")))
static void jrnl_stream_avx512(uint8_t *dst, const uint8_t *src, size_t length)
{
    size_t k = 0;
    for (; k + 256 <= length; k += 256) {
        __m512i a = _mm512_loadu_si512(src + k);
        __m512i b = _mm512_loadu_si512(src + k + 64);
        __m512i c = _mm512_loadu_si512(src + k + 128);
        __m512i d = _mm512_loadu_si512(src + k + 192);
        _mm512_stream_si512((__m512i *)(dst + k), a);
        _mm512_stream_si512((__m512i *)(dst + k + 64), b);
        _mm512_stream_si512((__m512i *)(dst + k + 128), c);
        _mm512_stream_si512((__m512i *)(dst + k + 192), d);
    }
    for (; k + 64 <= length; k += 64)
        _mm512_stream_si512((__m512i *)(dst + k), _mm512_loadu_si512(src + k));
    if (k < length)
        memcpy(dst + k, src + k, length - k);
}

static inline void jrnl_stream_fence(void)
{
    _mm_sfence();
}

static jrnl_stream_fn jrnl_stream_choose(const char **name)
{
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512f")) {
        *name = "avx512";
        return jrnl_stream_avx512;
    }
    if (__builtin_cpu_supports("avx2")) {
        *name = "avx2";
        return jrnl_stream_avx2;
    }
    *name = "plain";
    return jrnl_stream_plain;
}

/* Blocks in one string instruction: the fastest there is where the processor announces "fast short
 * rep movsb" (cpuid 7, edx bit 4), and slow to start where it does not. */
static void jrnl_copy_string(uint8_t *dst, const uint8_t *src, size_t length)
{
    __asm__ volatile("rep movsb" : "+D"(dst), "+S"(src), "+c"(length) : : "memory");
}

static jrnl_stream_fn jrnl_copy_choose(void)
{
    unsigned eax, ebx, ecx, edx;
    if (__get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) && (edx & (1u << 4)))
        return jrnl_copy_string;
    return jrnl_stream_plain;
}

#else

static jrnl_stream_fn jrnl_copy_choose(void)
{
    return jrnl_stream_plain;
}

static inline void jrnl_stream_fence(void)
{
}

static jrnl_stream_fn jrnl_stream_choose(const char **name)
{
    *name = "plain";
    return jrnl_stream_plain;
}

#endif
#endif
