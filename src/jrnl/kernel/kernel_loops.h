/* The loops of a set of kernels; kernels.h includes this once for each kind of vector.
 *
 * It has defined: JRNL_K(name), a name of this kind; JRNL_TARGET, the attribute that lets the
 * compiler use the instructions; JRNL_V, a vector, and JRNL_PARTS of them in a line of 64 bytes;
 * JRNL_LOAD, JRNL_STORE, JRNL_STREAM (its address is aligned); JRNL_PIN, which has the compiler
 * keep a value rather than read it again; JRNL_MIX and JRNL_SCRAMBLE, the two steps of XXH3.
 */

#define JRNL_INLINE static inline __attribute__((always_inline)) JRNL_TARGET

typedef struct {
    JRNL_V part[JRNL_PARTS];
} JRNL_K(line);

JRNL_INLINE JRNL_K(line) JRNL_K(load)(const uint8_t *at)
{
    JRNL_K(line) line;
    for (int i = 0; i < JRNL_PARTS; i++)
        line.part[i] = JRNL_LOAD(at + i * sizeof(JRNL_V));
    return line;
}

JRNL_INLINE void JRNL_K(pin)(JRNL_K(line) *line)
{
    for (int i = 0; i < JRNL_PARTS; i++)
        JRNL_PIN(line->part[i]);
}

JRNL_INLINE void JRNL_K(put)(uint8_t *at, JRNL_K(line) line, int stream)
{
    for (int i = 0; i < JRNL_PARTS; i++) {
        if (stream)
            JRNL_STREAM(at + i * sizeof(JRNL_V), line.part[i]);
        else
            JRNL_STORE(at + i * sizeof(JRNL_V), line.part[i]);
    }
}

JRNL_INLINE JRNL_K(line) JRNL_K(mix)(JRNL_K(line) sum, JRNL_K(line) line, size_t secret)
{
    for (int i = 0; i < JRNL_PARTS; i++)
        sum.part[i] = JRNL_MIX(sum.part[i], line.part[i],
                               JRNL_LOAD(jrnl_secret + secret + i * sizeof(JRNL_V)));
    return sum;
}

JRNL_INLINE JRNL_K(line) JRNL_K(scramble)(JRNL_K(line) sum)
{
    for (int i = 0; i < JRNL_PARTS; i++)
        sum.part[i] = JRNL_SCRAMBLE(sum.part[i], JRNL_LOAD(jrnl_secret + JRNL_SECRET_SCRAMBLE
                                                           + i * sizeof(JRNL_V)));
    return sum;
}

/* `last` is the last line of the range, which may overlap the one before. */
JRNL_INLINE uint64_t JRNL_K(end)(JRNL_K(line) sum, JRNL_K(line) last, size_t length)
{
    uint64_t lanes[8];
    JRNL_K(put)((uint8_t *)lanes, JRNL_K(mix)(sum, last, JRNL_SECRET_LAST), 0);
    return jrnl_sum_end(lanes, length);
}

/* The pass: see jrnl_kernels.write. `before`, `after` and `stream` are constants here. */
JRNL_INLINE void JRNL_K(pass)(const struct jrnl_write *w, int before, int after, int stream)
{
    uint8_t *target = w->target, *before_to = w->before, *after_to = w->after;
    const uint8_t *data = w->data;
    size_t length = w->length, ahead = w->ahead, left = (length - 1) / 64, k = 0, s, some;
    JRNL_K(line) old, new, old_sum, new_sum, old_last;
    uint8_t end[128];    /* the last 64 bytes of what was written, however they lie to a line */
    old_sum = new_sum = JRNL_K(load)((const uint8_t *)jrnl_sum_begin);
    if (before)
        old_last = JRNL_K(load)(target + length - 64);
    while (left) {
        some = left < 16 ? left : 16;
        for (s = 0; s < some; s++, k += 64) {
            if (k + ahead < length)
                JRNL_PREFETCH(target + k + ahead);
            new = JRNL_K(load)(data + k);
            if (before) {
                old = JRNL_K(load)(target + k);
                JRNL_K(put)(before_to + k, old, stream);
                old_sum = JRNL_K(mix)(old_sum, old, 8 * s);
            }
            if (after) {
                JRNL_K(pin)(&new);
                JRNL_K(put)(after_to + k, new, stream);
                new_sum = JRNL_K(mix)(new_sum, new, 8 * s);
            }
            JRNL_K(put)(target + k, new, 0);
        }
        left -= some;
        if (before && some == 16)
            old_sum = JRNL_K(scramble)(old_sum);
        if (after && some == 16)
            new_sum = JRNL_K(scramble)(new_sum);
    }
    if (before) {
        memcpy(before_to + k, target + k, length - k);
        *w->before_sum = JRNL_K(end)(old_sum, old_last, length);
    }
    if (after) {
        JRNL_K(put)(end, new, 0);
        memcpy(end + 64, data + k, length - k);
        memcpy(after_to + k, end + 64, length - k);
        memcpy(target + k, end + 64, length - k);
        *w->after_sum = JRNL_K(end)(new_sum, JRNL_K(load)(end + length - k), length);
    } else {
        memcpy(target + k, data + k, length - k);
    }
}

JRNL_TARGET static void JRNL_K(write)(const struct jrnl_write *w, int stream)
{
    if (w->before && w->after)
        stream ? JRNL_K(pass)(w, 1, 1, 1) : JRNL_K(pass)(w, 1, 1, 0);
    else if (w->before)
        stream ? JRNL_K(pass)(w, 1, 0, 1) : JRNL_K(pass)(w, 1, 0, 0);
    else
        stream ? JRNL_K(pass)(w, 0, 1, 1) : JRNL_K(pass)(w, 0, 1, 0);
}

/* The same for copy_sum, and for sum where `target` is NULL. */
JRNL_INLINE uint64_t JRNL_K(summed)(uint8_t *target, const uint8_t *source, size_t length,
                                    const uint8_t *next, int stream)
{
    size_t left = (length - 1) / 64, k = 0, s, some;
    JRNL_K(line) line, sum = JRNL_K(load)((const uint8_t *)jrnl_sum_begin);
    if (next)
        jrnl_prefetch_far(next, length < JRNL_AHEAD_BYTES ? length : JRNL_AHEAD_BYTES);
    while (left) {
        some = left < 16 ? left : 16;
        for (s = 0; s < some; s++, k += 64) {
            if (k + JRNL_AHEAD_BYTES < length)
                JRNL_PREFETCH(source + k + JRNL_AHEAD_BYTES);
            line = JRNL_K(load)(source + k);
            if (target)
                JRNL_K(put)(target + k, line, stream);
            sum = JRNL_K(mix)(sum, line, 8 * s);
        }
        left -= some;
        if (some == 16)
            sum = JRNL_K(scramble)(sum);
    }
    if (target)
        memcpy(target + k, source + k, length - k);
    return JRNL_K(end)(sum, JRNL_K(load)(source + length - 64), length);
}

JRNL_TARGET static uint64_t JRNL_K(copy_sum)(uint8_t *target, const uint8_t *source,
                                             size_t length, const uint8_t *next, int stream)
{
    return stream ? JRNL_K(summed)(target, source, length, next, 1)
                  : JRNL_K(summed)(target, source, length, next, 0);
}

JRNL_TARGET static uint64_t JRNL_K(sum)(const uint8_t *source, size_t length, const uint8_t *next)
{
    return JRNL_K(summed)(NULL, source, length, next, 0);
}

JRNL_INLINE void JRNL_K(moved)(uint8_t *target, const uint8_t *source, size_t length, int stream)
{
    size_t k = -(uintptr_t)target & 63;    /* lines of the target from here on */
    JRNL_K(line) a, b, c, d;
    memcpy(target, source, k);
    for (; k + 256 <= length; k += 256) {
        a = JRNL_K(load)(source + k);
        b = JRNL_K(load)(source + k + 64);
        c = JRNL_K(load)(source + k + 128);
        d = JRNL_K(load)(source + k + 192);
        JRNL_K(pin)(&a);    /* or the compiler would see a memcpy, and call it */
        JRNL_K(put)(target + k, a, stream);
        JRNL_K(put)(target + k + 64, b, stream);
        JRNL_K(put)(target + k + 128, c, stream);
        JRNL_K(put)(target + k + 192, d, stream);
    }
    for (; k + 64 <= length; k += 64) {
        a = JRNL_K(load)(source + k);
        JRNL_K(pin)(&a);
        JRNL_K(put)(target + k, a, stream);
    }
    memcpy(target + k, source + k, length - k);
}

JRNL_TARGET static void JRNL_K(copy)(uint8_t *target, const uint8_t *source, size_t length)
{
    JRNL_K(moved)(target, source, length, 0);
}

JRNL_TARGET static void JRNL_K(stream)(uint8_t *target, const uint8_t *source, size_t length)
{
    JRNL_K(moved)(target, source, length, 1);
}

#undef JRNL_INLINE
#undef JRNL_K
#undef JRNL_TARGET
#undef JRNL_V
#undef JRNL_PARTS
#undef JRNL_LOAD
#undef JRNL_STORE
#undef JRNL_STREAM
#undef JRNL_PIN
#undef JRNL_MIX
#undef JRNL_SCRAMBLE
