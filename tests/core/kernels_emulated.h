/* AVX-512 and AVX2 in plain C, for machines without them: Debian's libsimde-dev, and what it lacks. */
#define SIMDE_ENABLE_NATIVE_ALIASES
#include <simde/x86/avx512.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#ifndef _mm512_shuffle_epi32
typedef int _MM_PERM_ENUM;

static inline __m512i emulated_shuffle(__m512i from, int order)
{
    uint32_t lanes[16], result[16];
    memcpy(lanes, &from, sizeof lanes);
    for (int i = 0; i < 16; i++)
        result[i] = lanes[i / 4 * 4 + (order >> i % 4 * 2 & 3)];
    memcpy(&from, result, sizeof result);
    return from;
}
#define _mm512_shuffle_epi32 emulated_shuffle
#endif

#ifndef _mm512_stream_si512
/* The instruction faults where its address is not on a line's boundary. */
static inline void emulated_stream(void *at, __m512i value)
{
    if ((uintptr_t)at % 64)
        abort();
    memcpy(at, &value, sizeof value);
}
#define _mm512_stream_si512 emulated_stream
#endif
