/* Writes through jrnl's C header, as a program that embeds the engine does them. */
#include <jrnl.h>
#include <stdint.h>

static const struct jrnl_api *jrnl;

/* With the GIL held; -1 and a Python exception where the table is not to be had. */
int from_c_import(void)
{
    jrnl = jrnl_import();
    return jrnl ? 0 : -1;
}

struct jrnl_engine *from_c_open(uint64_t volume_bytes, uint64_t journal_bytes)
{
    struct jrnl_engine *engine = NULL;
    if (jrnl->open(&engine, 1, &volume_bytes, journal_bytes, JRNL_CHECKSUM) != JRNL_OK)
        return NULL;
    return engine;
}

/* n writes, data from row i % row_count. Returns JRNL_OK or the first error. */
int from_c_write(struct jrnl_engine *engine, const int64_t *offsets, uint64_t n,
                 const uint8_t *rows, uint64_t row_count, uint64_t length)
{
    uint64_t row = 0;
    for (uint64_t i = 0; i < n; i++) {
        const uint8_t *data = rows + row * length;
        int status = jrnl->write(engine, 0, (uint64_t)offsets[i], data, length, NULL);
        if (status != JRNL_OK)
            return status;
        row = row + 1 == row_count ? 0 : row + 1;
    }
    return JRNL_OK;
}

/* The same in batches of row_count. */
int from_c_write_many(struct jrnl_engine *engine, const int64_t *offsets, uint64_t n,
                      const uint8_t *rows, uint64_t row_count, uint64_t length)
{
    for (uint64_t i = 0; i < n; i += row_count) {
        uint64_t count = n - i < row_count ? n - i : row_count;
        int status = jrnl->write_many(engine, 0, offsets + i, count, rows, length, NULL);
        if (status != JRNL_OK)
            return status;
    }
    return JRNL_OK;
}

void from_c_close(struct jrnl_engine *engine)
{
    jrnl->close(engine);
}
