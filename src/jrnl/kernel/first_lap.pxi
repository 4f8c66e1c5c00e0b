# The first lap: a new journal's memory is faulted in by a thread, ahead of the writer.
#
# A page that nobody has touched has to be zeroed first, which takes a third of what a write takes
# in all. The thread is at most as far ahead as the writer has come, so that a store takes no more
# than twice the memory that it uses, and it ends with the lap.
#
# Takes: lock, memory, ring

cdef extern from *:
    """
    #include <signal.h>

    enum {
        JRNL_LAP_STEP_BYTES = 2 << 20,
        JRNL_LAP_AHEAD_BYTES = 32 << 20,
        JRNL_LAP_STACK_BYTES = 256 << 10
    };

    struct jrnl_lap {
        pthread_t thread;
        pthread_mutex_t mutex;
        pthread_cond_t changed;
        uint8_t *memory;
        uint64_t size, filled, wanted;
        int ending;
        unsigned long forks;    /* a child has the memory, but not the thread */
    };

    static void *jrnl_lap_run(void *given)
    {
        struct jrnl_lap *lap = given;
        pthread_mutex_lock(&lap->mutex);
        while (!lap->ending && lap->filled < lap->size) {
            uint64_t at = lap->filled, length = lap->size - at;
            int error;
            if (at >= lap->wanted) {
                pthread_cond_wait(&lap->changed, &lap->mutex);
                continue;
            }
            if (length > JRNL_LAP_STEP_BYTES)
                length = JRNL_LAP_STEP_BYTES;
            pthread_mutex_unlock(&lap->mutex);
            error = jrnl_populate(lap->memory + at, length);
            pthread_mutex_lock(&lap->mutex);
            /* Without memory, or on a kernel that does not know this, the writer's faults serve. */
            lap->filled = error && error != EINTR && error != EAGAIN ? lap->size : at + length;
        }
        pthread_mutex_unlock(&lap->mutex);
        return NULL;
    }

    /* NULL where there can be no thread. Signals are not for it. */
    static struct jrnl_lap *jrnl_lap_begin(uint8_t *memory, uint64_t size)
    {
        struct jrnl_lap *lap = calloc(1, sizeof *lap);
        pthread_attr_t attributes;
        sigset_t all, before;
        int failed;
        if (!lap)
            return NULL;
        lap->memory = memory;
        lap->size = size;
        lap->forks = jrnl_forks;
        pthread_mutex_init(&lap->mutex, NULL);
        pthread_cond_init(&lap->changed, NULL);
        pthread_attr_init(&attributes);
        pthread_attr_setstacksize(&attributes, JRNL_LAP_STACK_BYTES);
        sigfillset(&all);
        pthread_sigmask(SIG_SETMASK, &all, &before);
        failed = pthread_create(&lap->thread, &attributes, jrnl_lap_run, lap);
        pthread_sigmask(SIG_SETMASK, &before, NULL);
        pthread_attr_destroy(&attributes);
        if (failed) {
            free(lap);
            return NULL;
        }
        return lap;
    }

    /* The writer has come to `head`. Returns where it should say so again; UINT64_MAX: nowhere. */
    static uint64_t jrnl_lap_follow(struct jrnl_lap *lap, uint64_t head)
    {
        uint64_t ahead = head < JRNL_LAP_AHEAD_BYTES ? head : JRNL_LAP_AHEAD_BYTES;
        uint64_t wanted = head + ahead;
        if (lap->forks != jrnl_forks)
            return UINT64_MAX;
        pthread_mutex_lock(&lap->mutex);
        lap->wanted = wanted;
        pthread_cond_signal(&lap->changed);
        pthread_mutex_unlock(&lap->mutex);
        return wanted >= lap->size ? UINT64_MAX : head + ahead / 2;
    }

    /* Before the memory goes. */
    static void jrnl_lap_end(struct jrnl_lap *lap)
    {
        if (lap->forks == jrnl_forks) {
            pthread_mutex_lock(&lap->mutex);
            lap->ending = 1;
            pthread_cond_signal(&lap->changed);
            pthread_mutex_unlock(&lap->mutex);
            pthread_join(lap->thread, NULL);
            pthread_mutex_destroy(&lap->mutex);
            pthread_cond_destroy(&lap->changed);
        }
        free(lap);
    }
    """
    ctypedef struct FirstLap "struct jrnl_lap":
        pass
    FirstLap* jrnl_lap_begin(uint8_t* memory, uint64_t size) noexcept nogil
    uint64_t jrnl_lap_follow(FirstLap* lap, uint64_t head) noexcept nogil
    void jrnl_lap_end(FirstLap* lap) noexcept nogil

cdef enum:
    LAP_MIN_BYTES = 16777216     # smaller image areas are soon through with it
    LAP_START_BYTES = 2097152


cdef inline void first_lap_prepare(Core* core) noexcept nogil:
    core.lap_next = LAP_START_BYTES if core.ring.area >= LAP_MIN_BYTES else NO_SLOT


cdef void first_lap_follow(Core* core) noexcept nogil:
    """The writer has come to where the thread should get ahead of it again."""
    if core.lap is NULL:
        core.lap = jrnl_lap_begin(core.images, core.ring.area)
    core.lap_next = NO_SLOT
    if core.lap is not NULL:
        core.lap_next = jrnl_lap_follow(<FirstLap*>core.lap, core.ring.head)


cdef void first_lap_end(Core* core) noexcept nogil:
    """The journal's memory is about to be given back."""
    if core.lap is not NULL:
        jrnl_lap_end(<FirstLap*>core.lap)
    core.lap = NULL
    core.lap_next = NO_SLOT
