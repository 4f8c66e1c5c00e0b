/* The kernels that move a store's bytes, for each kind of vector that a processor may have.
 *
 * A write is one pass over its range: it loads the old line, sums it, puts it into the journal,
 * and stores the new line, so that the arithmetic hides behind the memory. Images are written once
 * and read rarely: streaming stores keep them from evicting the working set, and spare the read of
 * the destination's line that an ordinary store needs.
 *
 * The sum is XXH3-64 as xxhash computes it for more than 240 bytes without a seed
 * (https://github.com/Cyan4973/xxHash, doc/xxhash_spec.md); kernels.pxi holds it against xxhash.
 * Nowhere is there a bare `rep movsb`: where the target is not aligned it is up to 30 times slower.
 *
 * Compilers and processors without these vectors get the plain loops. A test that has no AVX-512
 * compiles this file with JRNL_EMULATE naming a header that provides the intrinsics.
 */
#ifndef JRNL_KERNELS_H
#define JRNL_KERNELS_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* One write. Ranges do not overlap; images lie on a line's boundary and own whole lines. */
struct jrnl_write {
    uint8_t *before;         /* what `target` holds goes there; NULL: nowhere */
    uint8_t *after;          /* `data` goes there, too; NULL: nowhere */
    uint8_t *target;
    const uint8_t *data;     /* each byte is read once: its owner may be changing it */
    size_t length;           /* bytes, JRNL_SUM_MIN_BYTES at least */
    size_t ahead;            /* bytes that are on their way to the cache: with each line, the one
                                that far ahead is fetched */
    uint64_t *before_sum;
    uint64_t *after_sum;
};

struct jrnl_kernels {
    const char *name;
    /* Make the images of a write, sum them, and put the data in place. */
    void (*write)(const struct jrnl_write *write, int stream);
    /* Copy to a line's boundary, and return the sum; JRNL_SUM_MIN_BYTES at least. `next`, which is
     * as long, will be read after it; NULL: nobody knows. */
    uint64_t (*copy_sum)(uint8_t *target, const uint8_t *source, size_t length,
                         const uint8_t *next, int stream);
    uint64_t (*sum)(const uint8_t *source, size_t length, const uint8_t *next);
    /* Copy between any addresses, JRNL_COPY_MIN_BYTES at least; through the cache, or past it. */
    void (*copy)(uint8_t *target, const uint8_t *source, size_t length);
    void (*stream)(uint8_t *target, const uint8_t *source, size_t length);
};

enum {
    JRNL_COPY_MIN_BYTES = 64,
    JRNL_SUM_MIN_BYTES = 241,        /* shorter ranges are summed in other ways */
    JRNL_AHEAD_BYTES = 4096,         /* one block: all of it is on its way, into the second-level
                                        cache, while the one before is worked on */
    JRNL_SECRET_LAST = 121,          /* where in the secret the last line begins, */
    JRNL_SECRET_SCRAMBLE = 128,      /* the end of a block of 16 lines, */
    JRNL_SECRET_MERGE = 11           /* and the end of it all */
};

/* Into the second-level cache; any address will do, and none is read. */
#define JRNL_PREFETCH(at) __builtin_prefetch(at, 0, 2)

/* A function that does nothing but prefetch looks to GCC like one without an effect, whose calls may
 * go. This keeps them. */
#ifdef __GNUC__
#define JRNL_HAS_EFFECT() __asm__ volatile("")
#else
#define JRNL_HAS_EFFECT() ((void)0)
#endif

/* One line of a range that will be needed some blocks from now: what counts is the walk through the
 * page tables, and walks overlap only where they are begun one right after the other. */
static inline void jrnl_prefetch_page(const uint8_t *at)
{
    JRNL_HAS_EFFECT();
    JRNL_PREFETCH(at);
}

/* For a range that is about to be overwritten: into the first-level cache. */
static inline void jrnl_prefetch(const uint8_t *at, size_t length)
{
    JRNL_HAS_EFFECT();
    for (size_t k = 0; k < length; k += 64)
        __builtin_prefetch(at + k, 1, 3);
}

/* For a range that is read after this one. */
static inline void jrnl_prefetch_far(const uint8_t *at, size_t length)
{
    JRNL_HAS_EFFECT();
    for (size_t k = 0; k < length; k += 64)
        JRNL_PREFETCH(at + k);
    JRNL_PREFETCH(at + length - 1);    /* at an odd address one line more */
}

#define JRNL_PRIME32_1 0x9E3779B1U
#define JRNL_PRIME64_1 0x9E3779B185EBCA87ULL

static const uint64_t jrnl_sum_begin[8] = {
    0xC2B2AE3DU, JRNL_PRIME64_1, 0xC2B2AE3D27D4EB4FULL, 0x165667B19E3779F9ULL,
    0x85EBCA77C2B2AE63ULL, 0x85EBCA77U, 0x27D4EB2F165667C5ULL, JRNL_PRIME32_1,
};

static const uint8_t jrnl_secret[192] __attribute__((aligned(64))) = {
    0xb8, 0xfe, 0x6c, 0x39, 0x23, 0xa4, 0x4b, 0xbe, 0x7c, 0x01, 0x81, 0x2c, 0xf7, 0x21, 0xad, 0x1c,
    0xde, 0xd4, 0x6d, 0xe9, 0x83, 0x90, 0x97, 0xdb, 0x72, 0x40, 0xa4, 0xa4, 0xb7, 0xb3, 0x67, 0x1f,
    0xcb, 0x79, 0xe6, 0x4e, 0xcc, 0xc0, 0xe5, 0x78, 0x82, 0x5a, 0xd0, 0x7d, 0xcc, 0xff, 0x72, 0x21,
    0xb8, 0x08, 0x46, 0x74, 0xf7, 0x43, 0x24, 0x8e, 0xe0, 0x35, 0x90, 0xe6, 0x81, 0x3a, 0x26, 0x4c,
    0x3c, 0x28, 0x52, 0xbb, 0x91, 0xc3, 0x00, 0xcb, 0x88, 0xd0, 0x65, 0x8b, 0x1b, 0x53, 0x2e, 0xa3,
    0x71, 0x64, 0x48, 0x97, 0xa2, 0x0d, 0xf9, 0x4e, 0x38, 0x19, 0xef, 0x46, 0xa9, 0xde, 0xac, 0xd8,
    0xa8, 0xfa, 0x76, 0x3f, 0xe3, 0x9c, 0x34, 0x3f, 0xf9, 0xdc, 0xbb, 0xc7, 0xc7, 0x0b, 0x4f, 0x1d,
    0x8a, 0x51, 0xe0, 0x4b, 0xcd, 0xb4, 0x59, 0x31, 0xc8, 0x9f, 0x7e, 0xc9, 0xd9, 0x78, 0x73, 0x64,
    0xea, 0xc5, 0xac, 0x83, 0x34, 0xd3, 0xeb, 0xc3, 0xc5, 0x81, 0xa0, 0xff, 0xfa, 0x13, 0x63, 0xeb,
    0x17, 0x0d, 0xdd, 0x51, 0xb7, 0xf0, 0xda, 0x49, 0xd3, 0x16, 0x55, 0x26, 0x29, 0xd4, 0x68, 0x9e,
    0x2b, 0x16, 0xbe, 0x58, 0x7d, 0x47, 0xa1, 0xfc, 0x8f, 0xf8, 0xb8, 0xd1, 0x7a, 0xd0, 0x31, 0xce,
    0x45, 0xcb, 0x3a, 0x8f, 0x95, 0x16, 0x04, 0x28, 0xaf, 0xd7, 0xfb, 0xca, 0xbb, 0x4b, 0x40, 0x7e,
};

/* The processor's own 64-bit words. Where they are big-endian, so are the sums: wrong, and found to
 * be so when they are held against xxhash. */
static inline uint64_t jrnl_word(const void *at)
{
    uint64_t word;
    memcpy(&word, at, sizeof word);
    return word;
}

/* The two halves of a 128-bit product, one on the other. */
static inline uint64_t jrnl_fold_product(uint64_t a, uint64_t b)
{
#ifdef __SIZEOF_INT128__
    unsigned __int128 product = (unsigned __int128)a * b;
    return (uint64_t)product ^ (uint64_t)(product >> 64);
#else
    uint64_t low = (a & 0xFFFFFFFFU) * (b & 0xFFFFFFFFU), cross;
    uint64_t up = (a >> 32) * (b & 0xFFFFFFFFU), down = (a & 0xFFFFFFFFU) * (b >> 32);
    cross = (low >> 32) + (up & 0xFFFFFFFFU) + down;
    return ((up >> 32) + (cross >> 32) + (a >> 32) * (b >> 32))
        ^ ((cross << 32) | (low & 0xFFFFFFFFU));
#endif
}

static uint64_t jrnl_sum_end(const uint64_t *lanes, uint64_t length)
{
    const uint8_t *secret = jrnl_secret + JRNL_SECRET_MERGE;
    uint64_t sum = length * JRNL_PRIME64_1;
    for (int i = 0; i < 8; i += 2)
        sum += jrnl_fold_product(lanes[i] ^ jrnl_word(secret + 8 * i),
                                 lanes[i + 1] ^ jrnl_word(secret + 8 * i + 8));
    sum ^= sum >> 37;
    sum *= 0x165667919E3779F9ULL;
    return sum ^ (sum >> 32);
}

#if defined(__x86_64__) && defined(__GNUC__) && !defined(JRNL_NO_VECTORS)
#define JRNL_X86 1
#ifdef JRNL_EMULATE
#include JRNL_EMULATE
#define JRNL_FOR(instructions)
#define JRNL_PIN_VECTOR(constraint, value) ((void)(value))
#else
#include <immintrin.h>
#define JRNL_FOR(instructions) __attribute__((target(instructions)))
#define JRNL_PIN_VECTOR(constraint, value) __asm__ volatile("" : constraint(value))
#endif
/* Compilers older than these don't know all of AVX-512. */
#if defined(JRNL_EMULATE) || (defined(__clang__) ? __clang_major__ >= 4 : __GNUC__ >= 6)
#define JRNL_X86_512 1
#endif
#endif

/* Portable: two lanes in a pair. With SSE2, which every x86-64 has, else in plain C. */

#ifdef JRNL_X86

static inline __m128i jrnl_mix_128(__m128i sum, __m128i data, __m128i secret)
{
    __m128i key = _mm_xor_si128(data, secret);
    __m128i product = _mm_mul_epu32(key, _mm_srli_epi64(key, 32));
    return _mm_add_epi64(product, _mm_add_epi64(sum, _mm_shuffle_epi32(data, 0x4E)));
}

static inline __m128i jrnl_scramble_128(__m128i sum, __m128i secret)
{
    __m128i key = _mm_xor_si128(_mm_xor_si128(sum, _mm_srli_epi64(sum, 47)), secret);
    __m128i prime = _mm_set1_epi32((int)JRNL_PRIME32_1);
    __m128i high = _mm_mul_epu32(_mm_srli_epi64(key, 32), prime);
    return _mm_add_epi64(_mm_mul_epu32(key, prime), _mm_slli_epi64(high, 32));
}

#define JRNL_K(name) jrnl_##name##_portable
#define JRNL_TARGET
#define JRNL_V __m128i
#define JRNL_PARTS 4
#define JRNL_LOAD(at) _mm_loadu_si128((const __m128i *)(at))
#define JRNL_STORE(at, value) _mm_storeu_si128((__m128i *)(at), value)
#define JRNL_STREAM(at, value) _mm_stream_si128((__m128i *)(at), value)
#define JRNL_PIN(value) JRNL_PIN_VECTOR("+x", value)
#define JRNL_MIX jrnl_mix_128
#define JRNL_SCRAMBLE jrnl_scramble_128

#else

typedef struct {
    uint64_t a, b;
} jrnl_pair;

static inline jrnl_pair jrnl_load_pair(const uint8_t *at)
{
    jrnl_pair pair;
    memcpy(&pair, at, sizeof pair);
    return pair;
}

static inline jrnl_pair jrnl_mix_pair(jrnl_pair sum, jrnl_pair data, jrnl_pair secret)
{
    uint64_t a = data.a ^ secret.a, b = data.b ^ secret.b;
    sum.a += data.b + (a & 0xFFFFFFFFU) * (a >> 32);
    sum.b += data.a + (b & 0xFFFFFFFFU) * (b >> 32);
    return sum;
}

static inline jrnl_pair jrnl_scramble_pair(jrnl_pair sum, jrnl_pair secret)
{
    sum.a = (sum.a ^ (sum.a >> 47) ^ secret.a) * JRNL_PRIME32_1;
    sum.b = (sum.b ^ (sum.b >> 47) ^ secret.b) * JRNL_PRIME32_1;
    return sum;
}

#define JRNL_K(name) jrnl_##name##_portable
#define JRNL_TARGET
#define JRNL_V jrnl_pair
#define JRNL_PARTS 4
#define JRNL_LOAD(at) jrnl_load_pair(at)
#define JRNL_STORE(at, value) memcpy(at, &(value), sizeof(jrnl_pair))
#define JRNL_STREAM JRNL_STORE
#ifdef __GNUC__
#define JRNL_PIN(value) __asm__ volatile("" : "+r"((value).a), "+r"((value).b))
#else
#define JRNL_PIN(value) ((void)(value))
#endif
#define JRNL_MIX jrnl_mix_pair
#define JRNL_SCRAMBLE jrnl_scramble_pair

#endif
#include "kernel_loops.h"

static const struct jrnl_kernels jrnl_portable = {
    "portable", jrnl_write_portable, jrnl_copy_sum_portable, jrnl_sum_portable,
    jrnl_copy_portable, jrnl_stream_portable,
};

/* AVX2. */

#ifdef JRNL_X86

#define JRNL_FOR_256 JRNL_FOR("avx2")

JRNL_FOR_256 static inline __m256i jrnl_mix_256(__m256i sum, __m256i data, __m256i secret)
{
    __m256i key = _mm256_xor_si256(data, secret);
    __m256i product = _mm256_mul_epu32(key, _mm256_srli_epi64(key, 32));
    return _mm256_add_epi64(product, _mm256_add_epi64(sum, _mm256_shuffle_epi32(data, 0x4E)));
}

JRNL_FOR_256 static inline __m256i jrnl_scramble_256(__m256i sum, __m256i secret)
{
    __m256i key = _mm256_xor_si256(_mm256_xor_si256(sum, _mm256_srli_epi64(sum, 47)), secret);
    __m256i prime = _mm256_set1_epi32((int)JRNL_PRIME32_1);
    __m256i high = _mm256_mul_epu32(_mm256_srli_epi64(key, 32), prime);
    return _mm256_add_epi64(_mm256_mul_epu32(key, prime), _mm256_slli_epi64(high, 32));
}

#define JRNL_K(name) jrnl_##name##_avx2
#define JRNL_TARGET JRNL_FOR_256
#define JRNL_V __m256i
#define JRNL_PARTS 2
#define JRNL_LOAD(at) _mm256_loadu_si256((const __m256i *)(at))
#define JRNL_STORE(at, value) _mm256_storeu_si256((__m256i *)(at), value)
#define JRNL_STREAM(at, value) _mm256_stream_si256((__m256i *)(at), value)
#define JRNL_PIN(value) JRNL_PIN_VECTOR("+x", value)
#define JRNL_MIX jrnl_mix_256
#define JRNL_SCRAMBLE jrnl_scramble_256
#include "kernel_loops.h"

static const struct jrnl_kernels jrnl_avx2 = {
    "avx2", jrnl_write_avx2, jrnl_copy_sum_avx2, jrnl_sum_avx2, jrnl_copy_avx2, jrnl_stream_avx2,
};

#endif

/* AVX-512. */

#ifdef JRNL_X86_512

#define JRNL_FOR_512 JRNL_FOR("avx512f")

JRNL_FOR_512 static inline __m512i jrnl_mix_512(__m512i sum, __m512i data, __m512i secret)
{
    __m512i key = _mm512_xor_si512(data, secret);
    __m512i product = _mm512_mul_epu32(key, _mm512_srli_epi64(key, 32));
    __m512i other = _mm512_shuffle_epi32(data, (_MM_PERM_ENUM)0x4E);
    return _mm512_add_epi64(product, _mm512_add_epi64(sum, other));
}

JRNL_FOR_512 static inline __m512i jrnl_scramble_512(__m512i sum, __m512i secret)
{
    __m512i key = _mm512_xor_si512(_mm512_xor_si512(sum, _mm512_srli_epi64(sum, 47)), secret);
    __m512i prime = _mm512_set1_epi32((int)JRNL_PRIME32_1);
    __m512i high = _mm512_mul_epu32(_mm512_srli_epi64(key, 32), prime);
    return _mm512_add_epi64(_mm512_mul_epu32(key, prime), _mm512_slli_epi64(high, 32));
}

#define JRNL_K(name) jrnl_##name##_avx512
#define JRNL_TARGET JRNL_FOR_512
#define JRNL_V __m512i
#define JRNL_PARTS 1
#define JRNL_LOAD(at) _mm512_loadu_si512((const void *)(at))
#define JRNL_STORE(at, value) _mm512_storeu_si512((void *)(at), value)
#define JRNL_STREAM(at, value) _mm512_stream_si512((__m512i *)(at), value)
#define JRNL_PIN(value) JRNL_PIN_VECTOR("+v", value)
#define JRNL_MIX jrnl_mix_512
#define JRNL_SCRAMBLE jrnl_scramble_512
#include "kernel_loops.h"

static const struct jrnl_kernels jrnl_avx512 = {
    "avx512", jrnl_write_avx512, jrnl_copy_sum_avx512, jrnl_sum_avx512, jrnl_copy_avx512,
    jrnl_stream_avx512,
};

#endif

/* All that this build has, the best one first. */
static const struct jrnl_kernels *const jrnl_all_kernels[] = {
#ifdef JRNL_X86_512
    &jrnl_avx512,
#endif
#ifdef JRNL_X86
    &jrnl_avx2,
#endif
    &jrnl_portable,
    NULL,
};

static inline const struct jrnl_kernels *jrnl_kernels_at(int place)
{
    return jrnl_all_kernels[place];
}

/* Whether this processor, and its operating system, can run them. */
static int jrnl_kernels_run(const struct jrnl_kernels *kernels)
{
#if defined(JRNL_X86) && !defined(JRNL_EMULATE)
    __builtin_cpu_init();
#ifdef JRNL_X86_512
    if (kernels == &jrnl_avx512)
        return __builtin_cpu_supports("avx512f") != 0;
#endif
    if (kernels == &jrnl_avx2)
        return __builtin_cpu_supports("avx2") != 0;
#endif
    (void)kernels;
    return 1;
}

/* Stores that went past the cache become visible in order with those after this. */
static inline void jrnl_stream_fence(void)
{
#ifdef JRNL_X86
    _mm_sfence();
#endif
}

#endif
