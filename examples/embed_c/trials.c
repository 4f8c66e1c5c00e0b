/* A thousand trials on one volume, each from the same state, with no Python in between.
 *
 * A test rig often wants this: prepare a volume, let a program ruin it, look, put it back, again.
 * Here the engine lives in C. Python asks for the trials and gets the figures; in between the GIL
 * is released. Build and run, beside an installed jrnl:
 *
 *     python setup.py build_ext --inplace
 *     python -c "import trials; print(trials.run(1000))"
 */
#define PY_SSIZE_T_CLEAN
#include <jrnl.h>
#include <string.h>

#define VOLUME_BYTES ((uint64_t)64 << 20)
#define JOURNAL_BYTES ((uint64_t)4 << 20)
#define BLOCK_BYTES 4096
#define WRITES_A_TRIAL 16

static const struct jrnl_api *jrnl;

struct figures {
    uint64_t dropped; /* entries that the rewinds dropped */
    uint64_t bytes;   /* that they put back */
    uint64_t oldest;  /* state of the window */
    uint64_t newest;
};

/* Fill the volume's first blocks, each with its own number. *start is the state to come back to. */
static int prepare(struct jrnl_engine *engine, uint64_t *start)
{
    unsigned char block[BLOCK_BYTES];
    for (unsigned k = 0; k < 4 * WRITES_A_TRIAL; k++) {
        memset(block, (int)k, sizeof block);
        int status = jrnl->write(engine, 0, k * BLOCK_BYTES, block, sizeof block, start);
        if (status != JRNL_OK)
            return status;
    }
    return JRNL_OK;
}

/* Ruin some blocks, see that they are ruined, go back, see that they are whole. */
static int try_once(struct jrnl_engine *engine, unsigned trial, uint64_t start,
                    struct figures *figures)
{
    unsigned char noise[BLOCK_BYTES], found[BLOCK_BYTES];
    struct jrnl_rewound rewound;
    unsigned k = 0;
    int status = JRNL_OK;
    memset(noise, 0xEE, sizeof noise);
    for (unsigned i = 0; i < WRITES_A_TRIAL && status == JRNL_OK; i++) {
        k = (trial * 7 + i * 5) % (4 * WRITES_A_TRIAL);
        status = jrnl->write(engine, 0, k * BLOCK_BYTES, noise, sizeof noise, NULL);
    }
    if (status == JRNL_OK)
        status = jrnl->read(engine, 0, k * BLOCK_BYTES, found, sizeof found);
    if (status == JRNL_OK && memcmp(found, noise, sizeof found) != 0)
        return JRNL_E_CORRUPT;
    if (status == JRNL_OK)
        status = jrnl->rewind(engine, start, &rewound);
    if (status == JRNL_OK)
        status = jrnl->read(engine, 0, k * BLOCK_BYTES, found, sizeof found);
    if (status != JRNL_OK)
        return status;
    figures->dropped += rewound.entries;
    figures->bytes += rewound.bytes;
    return found[0] == k && found[BLOCK_BYTES - 1] == k ? JRNL_OK : JRNL_E_CORRUPT;
}

static int run_trials(unsigned count, struct figures *figures)
{
    struct jrnl_engine *engine;
    uint64_t size = VOLUME_BYTES, start = 0;
    int status = jrnl->open(&engine, 1, &size, JOURNAL_BYTES, JRNL_BEFORE | JRNL_CHECKSUM);
    if (status != JRNL_OK)
        return status;
    status = prepare(engine, &start);
    for (unsigned trial = 0; trial < count && status == JRNL_OK; trial++)
        status = try_once(engine, trial, start, figures);
    jrnl->window(engine, &figures->oldest, &figures->newest);
    jrnl->close(engine);
    return status;
}

static PyObject *run(PyObject *module, PyObject *args)
{
    struct figures figures = {0, 0, 0, 0};
    unsigned count;
    int status;
    (void)module;
    if (!PyArg_ParseTuple(args, "I:run", &count))
        return NULL;
    Py_BEGIN_ALLOW_THREADS
    status = run_trials(count, &figures);
    Py_END_ALLOW_THREADS
    if (status != JRNL_OK)
        return PyErr_Format(PyExc_RuntimeError, "jrnl returned status %d", status);
    return Py_BuildValue("{s:K,s:K,s:(KK)}", "dropped", (unsigned long long)figures.dropped,
                         "bytes", (unsigned long long)figures.bytes, "window",
                         (unsigned long long)figures.oldest, (unsigned long long)figures.newest);
}

static PyMethodDef methods[] = {
    {"run", run, METH_VARARGS, "run(count): make so many trials; what their rewinds undid."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, .m_name = "trials", .m_size = -1, .m_methods = methods,
};

PyMODINIT_FUNC PyInit_trials(void)
{
    jrnl = jrnl_import(); /* with the GIL, once */
    return jrnl ? PyModule_Create(&definition) : NULL;
}
