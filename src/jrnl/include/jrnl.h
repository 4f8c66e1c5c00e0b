/* jrnl from C: a journaling engine over volumes in memory, without Python in between.
 *
 * Include this in an extension module (or any code that runs inside a Python process), call
 * jrnl_import() once with the GIL held, then use the table from any thread, with or without the GIL.
 * Every call locks the engine it is given. A call returns JRNL_OK or one of the codes below, and has
 * changed nothing unless it returned JRNL_OK.
 *
 *     const struct jrnl_api *jrnl = jrnl_import();
 *     struct jrnl_engine *engine;
 *     uint64_t size = 1 << 30, seq;
 *     if (jrnl->open(&engine, 1, &size, 256 << 20, JRNL_CHECKSUM) != JRNL_OK) ...
 *     jrnl->write(engine, 0, 4096, block, sizeof block, &seq);
 *     jrnl->rewind(engine, 0, NULL);
 *     jrnl->close(engine);
 */
#ifndef JRNL_H
#define JRNL_H

#include <Python.h>
#include <stdint.h>

#define JRNL_API_VERSION 1
#define JRNL_CAPSULE "jrnl._core._C_API"

enum jrnl_status {
    JRNL_OK = 0,
    JRNL_E_BOUNDS = -1,    /* range not inside the volume */
    JRNL_E_TOO_LARGE = -2, /* longer than one entry may be: half the image area */
    JRNL_E_FULL = -3,      /* no room, and the oldest entry may not leave (JRNL_REFUSE) */
    JRNL_E_EXPIRED = -5,   /* the state has left the window, or was dropped by a rewind */
    JRNL_E_UNKNOWN = -6,   /* the state has not existed yet */
    JRNL_E_PINNED = -7,    /* something open needs an entry that would be dropped */
    JRNL_E_CORRUPT = -8,   /* a checksum does not match */
    JRNL_E_NO_MEMORY = -9,
    JRNL_E_NO_BEFORE = -11, /* the journal keeps no before-images (JRNL_AFTER alone) */
    JRNL_E_ARGUMENT = -12, /* no such flag, a journal below 16 KiB, no volume, one of no bytes */
    /* Of stores on disk alone, which this table does not open yet. */
    JRNL_E_IO = -14,        /* a file could not be read, written or synced */
    JRNL_E_POISONED = -15,  /* one could not be earlier: no more writes until it is opened again */
    JRNL_E_READ_ONLY = -16, /* it was opened for reading */
    JRNL_E_FORKED = -17,    /* the process that opened it is this one's parent */
    JRNL_E_LOST = -18,      /* the newest bytes of the range were in an entry that is damaged */
    JRNL_E_FOLD = -19,      /* overflow="fold": bringing a snapshot on has failed; nothing changed */
    JRNL_E_BUSY = -20       /* a call from inside another one on this thread, in a callback of it */
};

enum jrnl_flags {
    JRNL_BEFORE = 1,   /* keep before-images; the default where neither is named */
    JRNL_AFTER = 2,    /* keep after-images */
    JRNL_CHECKSUM = 4, /* sum headers and images with XXH3-64 */
    JRNL_REFUSE = 8    /* a full journal refuses writes instead of letting its oldest entries go */
};

struct jrnl_engine;

struct jrnl_rewound {
    uint64_t seq;     /* of the REWIND entry */
    uint64_t entries; /* dropped */
    uint64_t bytes;   /* put back */
};

struct jrnl_api {
    uint32_t version; /* JRNL_API_VERSION */
    /* `count` zeroed volumes of sizes[k] bytes and a journal of `journal` bytes. */
    int (*open)(struct jrnl_engine **engine, uint32_t count, const uint64_t *sizes,
                uint64_t journal, unsigned flags);
    void (*close)(struct jrnl_engine *engine);
    /* seq may be NULL, and is the (last) entry's otherwise; nothing is done for no bytes. */
    int (*write)(struct jrnl_engine *engine, uint32_t volume, uint64_t offset, const void *data,
                 uint64_t length, uint64_t *seq);
    /* `count` blocks of `length` bytes, one behind the other in data; all are written, or none. */
    int (*write_many)(struct jrnl_engine *engine, uint32_t volume, const int64_t *offsets,
                      uint64_t count, const void *data, uint64_t length, uint64_t *seq);
    int (*discard)(struct jrnl_engine *engine, uint32_t volume, uint64_t offset, uint64_t length,
                   uint64_t *seq);
    int (*read)(struct jrnl_engine *engine, uint32_t volume, uint64_t offset, void *data,
                uint64_t length);
    /* Every volume back to state `to`; `result` may be NULL. */
    int (*rewind)(struct jrnl_engine *engine, uint64_t to, struct jrnl_rewound *result);
    /* The states that can be rewound to: *oldest .. *newest, less what a rewind dropped. */
    void (*window)(struct jrnl_engine *engine, uint64_t *oldest, uint64_t *newest);
};

/* The table, or NULL with a Python exception set. The GIL must be held. */
static inline const struct jrnl_api *jrnl_import(void)
{
    const struct jrnl_api *api = (const struct jrnl_api *)PyCapsule_Import(JRNL_CAPSULE, 0);
    if (api && api->version < JRNL_API_VERSION) {
        PyErr_SetString(PyExc_ImportError, "this jrnl is older than the header it is used with");
        return NULL;
    }
    return api;
}

#endif
