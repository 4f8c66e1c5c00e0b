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
        JRNL_PREFAULT_STEP_BYTES = 2 << 20,
        JRNL_PREFAULT_AHEAD_BYTES = 32 << 20,
        JRNL_PREFAULT_STACK_BYTES = 256 << 10
    };

    struct jrnl_prefault {
        pthread_t thread;
        pthread_mutex_t mutex;
        pthread_cond_t changed;
        uint8_t *memory;
        uint64_t size, filled, wanted;
        int ending;
        unsigned long forks;    /* a child has the memory, but not the thread */
    };

    static void *jrnl_prefault_run(void *given)
    {
        struct jrnl_prefault *state = given;
        pthread_mutex_lock(&state->mutex);
        while (!state->ending && state->filled < state->size) {
            uint64_t at = state->filled, length = state->size - at;
            int error;
            if (at >= state->wanted) {
                pthread_cond_wait(&state->changed, &state->mutex);
                continue;
            }
            if (length > JRNL_PREFAULT_STEP_BYTES)
                length = JRNL_PREFAULT_STEP_BYTES;
            pthread_mutex_unlock(&state->mutex);
            error = jrnl_populate(state->memory + at, length);
            pthread_mutex_lock(&state->mutex);
            /* Without memory, or on a kernel that does not know this, the writer's faults serve. */
            state->filled = error && error != EINTR && error != EAGAIN ? state->size : at + length;
        }
        pthread_mutex_unlock(&state->mutex);
        return NULL;
    }

    /* NULL where there can be no thread. Signals are not for it. */
    static struct jrnl_prefault *jrnl_prefault_begin(uint8_t *memory, uint64_t size)
    {
        struct jrnl_prefault *state = calloc(1, sizeof *state);
        pthread_attr_t attributes;
        sigset_t all, before;
        int failed;
        if (!state)
            return NULL;
        state->memory = memory;
        state->size = size;
        state->forks = jrnl_forks;
        pthread_mutex_init(&state->mutex, NULL);
        pthread_cond_init(&state->changed, NULL);
        pthread_attr_init(&attributes);
        pthread_attr_setstacksize(&attributes, JRNL_PREFAULT_STACK_BYTES);
        sigfillset(&all);
        pthread_sigmask(SIG_SETMASK, &all, &before);
        failed = pthread_create(&state->thread, &attributes, jrnl_prefault_run, state);
        pthread_sigmask(SIG_SETMASK, &before, NULL);
        pthread_attr_destroy(&attributes);
        if (failed) {
            free(state);
            return NULL;
        }
        return state;
    }

    /* The writer has come to `head`. Returns where it should say so again; UINT64_MAX: nowhere. */
    static uint64_t jrnl_prefault_follow(struct jrnl_prefault *state, uint64_t head)
    {
        uint64_t ahead = head < JRNL_PREFAULT_AHEAD_BYTES ? head : JRNL_PREFAULT_AHEAD_BYTES;
        uint64_t wanted = head + ahead;
        if (state->forks != jrnl_forks)
            return UINT64_MAX;
        pthread_mutex_lock(&state->mutex);
        state->wanted = wanted;
        pthread_cond_signal(&state->changed);
        pthread_mutex_unlock(&state->mutex);
        return wanted >= state->size ? UINT64_MAX : head + ahead / 2;
    }

    /* Before the memory goes. */
    static void jrnl_prefault_end(struct jrnl_prefault *state)
    {
        if (state->forks == jrnl_forks) {
            pthread_mutex_lock(&state->mutex);
            state->ending = 1;
            pthread_cond_signal(&state->changed);
            pthread_mutex_unlock(&state->mutex);
            pthread_join(state->thread, NULL);
            pthread_mutex_destroy(&state->mutex);
            pthread_cond_destroy(&state->changed);
        }
        free(state);
    }
    """
    ctypedef struct Prefault "struct jrnl_prefault":
        pass
    Prefault* jrnl_prefault_begin(uint8_t* memory, uint64_t size) noexcept nogil
    uint64_t jrnl_prefault_follow(Prefault* state, uint64_t head) noexcept nogil
    void jrnl_prefault_end(Prefault* state) noexcept nogil

cdef enum:
    LAP_MIN_BYTES = 16777216     # smaller image areas are soon through with it
    LAP_START_BYTES = 2097152


cdef inline void prefault_prepare(Core* core) noexcept nogil:
    core.prefault_next = LAP_START_BYTES if core.ring.area >= LAP_MIN_BYTES else NO_SLOT


cdef void prefault_follow(Core* core) noexcept nogil:
    """The writer has come to where the thread should get ahead of it again."""
    if core.prefault is NULL:
        core.prefault = jrnl_prefault_begin(core.ring.images, core.ring.area)
    core.prefault_next = NO_SLOT
    if core.prefault is not NULL:
        core.prefault_next = jrnl_prefault_follow(<Prefault*>core.prefault, core.ring.head)


cdef void prefault_end(Core* core) noexcept nogil:
    """The journal's memory is about to be given back."""
    if core.prefault is not NULL:
        jrnl_prefault_end(<Prefault*>core.prefault)
    core.prefault = NULL
    core.prefault_next = NO_SLOT
