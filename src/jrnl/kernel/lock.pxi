# The engine's lock: who takes it, and how. Forks: a child has the memory, but not the threads.
#
# Takes: hash

cdef extern from *:
    """
    #include <time.h>
    #include <unistd.h>

    static unsigned long jrnl_forks;

    /* Where Python runs the handlers of signals; in a child that is the thread that has forked. */
    static pthread_t jrnl_main_thread;

    static void jrnl_after_fork(void)
    {
        jrnl_forks++;
        jrnl_main_thread = pthread_self();
    }

    static void jrnl_set_main_thread(unsigned long ident) { jrnl_main_thread = (pthread_t)ident; }

    static int jrnl_in_main_thread(void) { return pthread_equal(pthread_self(), jrnl_main_thread); }

    static void jrnl_watch_forks(void) { pthread_atfork(NULL, NULL, jrnl_after_fork); }

    static void jrnl_mutex_init(pthread_mutex_t *mutex)
    {
        pthread_mutexattr_t kind;
        pthread_mutexattr_init(&kind);
        pthread_mutexattr_settype(&kind, PTHREAD_MUTEX_RECURSIVE);
        pthread_mutex_init(mutex, &kind);
        pthread_mutexattr_destroy(&kind);
    }

    static pthread_mutex_t *jrnl_mutex_new(void)
    {
        pthread_mutex_t *mutex = malloc(sizeof *mutex);
        if (mutex)
            jrnl_mutex_init(mutex);
        return mutex;
    }

    /* A list whose items begin with a pointer to the next one. */
    static void jrnl_push(void **list, void *item)
    {
        void *first = __atomic_load_n(list, __ATOMIC_RELAXED);
        do
            *(void **)item = first;
        while (!__atomic_compare_exchange_n(list, &first, item, 0, __ATOMIC_RELEASE,
                                            __ATOMIC_RELAXED));
    }

    static void *jrnl_pop_all(void **list)
    {
        return __atomic_exchange_n(list, NULL, __ATOMIC_ACQUIRE);
    }

    /* A writer in a loop lets go of the lock for an instant at a time: be there, don't sleep. */
    static int jrnl_lock_soon(pthread_mutex_t *mutex, int64_t ns)
    {
        struct timespec until;
        int k;
        for (k = 0; k < 2000; k++) {
            if (pthread_mutex_trylock(mutex) == 0)
                return 0;
    #if defined(__x86_64__) || defined(__i386__)
            __builtin_ia32_pause();
    #endif
        }
        clock_gettime(CLOCK_REALTIME, &until);
        ns += until.tv_nsec;
        until.tv_sec += ns / 1000000000;
        until.tv_nsec = ns % 1000000000;
        return pthread_mutex_timedlock(mutex, &until);
    }

    static pthread_cond_t *jrnl_cond_new(void)
    {
        pthread_cond_t *cond = malloc(sizeof *cond);
        if (cond)
            pthread_cond_init(cond, NULL);
        return cond;
    }

    static pthread_mutex_t *jrnl_plain_mutex_new(void)
    {
        pthread_mutex_t *mutex = malloc(sizeof *mutex);
        if (mutex)
            pthread_mutex_init(mutex, NULL);
        return mutex;
    }
    """
    unsigned long jrnl_forks
    void jrnl_watch_forks()
    void jrnl_set_main_thread(unsigned long ident)
    bint jrnl_in_main_thread() noexcept nogil
    void jrnl_mutex_init(pthread_mutex_t* mutex) noexcept nogil
    pthread_mutex_t* jrnl_mutex_new() noexcept nogil
    void jrnl_push(void** list, void* item) noexcept nogil
    void* jrnl_pop_all(void** list) noexcept nogil
    int jrnl_lock_soon(pthread_mutex_t* mutex, int64_t ns) noexcept nogil
    pthread_cond_t* jrnl_cond_new() noexcept nogil
    pthread_mutex_t* jrnl_plain_mutex_new() noexcept nogil

cdef extern from "<pthread.h>" nogil:
    int pthread_mutex_lock(pthread_mutex_t* mutex)
    int pthread_mutex_trylock(pthread_mutex_t* mutex)
    int pthread_mutex_unlock(pthread_mutex_t* mutex)
    int pthread_mutex_destroy(pthread_mutex_t* mutex)
    int pthread_cond_wait(pthread_cond_t* cond, pthread_mutex_t* mutex)
    int pthread_cond_broadcast(pthread_cond_t* cond)
    int pthread_cond_destroy(pthread_cond_t* cond)

cdef enum:
    SOON_NS = 5000000

cdef str INSIDE = (
    "this call comes from inside another one on the same thread (from a signal's handler, a "
    "finalizer, a callback), which is between two of its steps; nothing has changed: make it again "
    "once that one has returned")

jrnl_set_main_thread(main_thread().ident)
jrnl_watch_forks()


cdef void core_lock(Core* core) noexcept nogil:
    """For callers with or without the GIL. The lock is re-entrant."""
    if <void*>hash64 == <void*>_hash_by_call:
        _lock_beside_gil(core)    # its holder may be waiting for the GIL, which we may have
    else:
        pthread_mutex_lock(core.mutex)
        core.calls.locked += 1
        reap_dropped(core)


cdef inline bint core_try(Core* core) noexcept nogil:
    """Lock, where that needs no waiting."""
    if pthread_mutex_trylock(core.mutex) != 0:
        return False
    core.calls.locked += 1
    return True


cdef void _lock_beside_gil(Core* core) noexcept nogil:
    with gil:
        enter_anyway(core)


cdef void core_unlock(Core* core) noexcept nogil:
    core.calls.locked -= 1
    pthread_mutex_unlock(core.mutex)


cdef inline void enter_anyway(Core* core) noexcept:
    """Lock with the GIL held, but never wait with it: the lock's holder may be waiting for it."""
    if not core_try(core):
        with nogil:
            pthread_mutex_lock(core.mutex)
        core.calls.locked += 1
    reap_dropped(core)


cdef inline bint has_gate(const Calls* calls) noexcept:
    """Whether this thread makes a piece of a copy (snapshot_copier.py)."""
    return calls.gate_owner == PyThread_get_thread_ident()


cdef bint _enter_soon(Core* core) noexcept:
    """Lock as `may_enter` does where somebody has the lock."""
    cdef bint taken
    if not has_gate(&core.calls):
        enter_anyway(core)
        return True
    with nogil:
        taken = lock_soon(core)
    return taken


cdef inline bint may_enter(Core* core) noexcept:
    """Lock with the GIL held; False where this thread may not wait for it.

    It has the gate then, and the lock's holder may be waiting for that: what the collector runs
    there (a finalizer) may not come in.
    """
    if not core_try(core):
        return _enter_soon(core)
    reap_dropped(core)
    return True


cdef inline int enter(Core* core) except -1:
    """The same. Raises StoreBusy."""
    if not may_enter(core):
        raise StoreBusy(INSIDE)
    return 0


cdef bint lock_soon(Core* core) noexcept nogil:
    """Take the lock, unless somebody else keeps it for long."""
    if jrnl_lock_soon(core.mutex, SOON_NS) != 0:
        return False
    core.calls.locked += 1
    reap_dropped(core)
    return True


cdef inline void reap_dropped(Core* core) noexcept nogil:
    if core.dropped is not NULL:
        core.reap(core)
