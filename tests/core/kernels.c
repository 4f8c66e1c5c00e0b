/* The core's kernels alone, for test_kernels.py: by their place in the list, runnable or not. */
#include "kernels.h"

const char *kernels_name(int place)
{
    return jrnl_all_kernels[place] ? jrnl_all_kernels[place]->name : NULL;
}

int kernels_run(int place)
{
    return jrnl_kernels_run(jrnl_all_kernels[place]);
}

void kernels_write(int place, uint8_t *before, uint8_t *after, uint8_t *target, const uint8_t *data,
                   size_t length, int stream, uint64_t *sums)
{
    struct jrnl_write write = {before, after, target, data, length, length / 2, &sums[0], &sums[1]};
    jrnl_all_kernels[place]->write(&write, stream);
    jrnl_stream_fence();
}

uint64_t kernels_copy_sum(int place, uint8_t *target, const uint8_t *source, size_t length,
                          int stream)
{
    uint64_t sum = jrnl_all_kernels[place]->copy_sum(target, source, length, source,
                                                       stream);
    jrnl_stream_fence();
    return sum;
}

uint64_t kernels_sum(int place, const uint8_t *source, size_t length)
{
    return jrnl_all_kernels[place]->sum(source, length, source);
}

void kernels_copy(int place, uint8_t *target, const uint8_t *source, size_t length, int stream)
{
    (stream ? jrnl_all_kernels[place]->stream : jrnl_all_kernels[place]->copy)(target, source,
                                                                              length);
    jrnl_stream_fence();
}
