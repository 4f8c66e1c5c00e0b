# Before entries leave, the Python layer is asked to bring a snapshot on over them.
#
# Takes: signals, device, errors, reading

cdef int fold_ask(Core* core, uint64_t seq) noexcept nogil:
    """Have a snapshot at state `seq`, or at a later one: the entries before that may leave."""
    cdef int status
    if not core.folds.on or seq <= core.folds.seq:
        return OK
    if seq > core.folds.pin_seq:
        return E_FULL
    if core.folds.folding:
        core.reclaim.full_by = FULL_FOLDING
        return E_FULL
    core.folds.folding = True
    status = _call_fold(core, seq)
    core.folds.folding = False
    if status != OK:
        return status
    if core.closed:
        return E_CLOSED
    return OK if seq <= core.folds.seq else E_FULL


cdef class _FoldCall:
    cdef object hook
    cdef uint64_t seq

    def __cinit__(self, hook, uint64_t seq):
        self.hook = hook
        self.seq = seq

    def __call__(self):
        self.hook(self.seq)


cdef int _call_fold(Core* core, uint64_t seq) noexcept nogil:
    global jrnl_inside
    cdef void* before = jrnl_inside
    with gil:
        if not fold_bears_calls(core.disk):
            jrnl_inside = <void*>core
        try:
            # A batch may ask in its middle: what a handler raises waits until all of it is made.
            _to_the_end(_FoldCall(<object>core.folds.hook, seq))
            return OK
        except BaseException as error:
            _fold_errors.setdefault(PyThread_get_thread_ident(), []).append(error)
            return E_FOLD
        finally:
            jrnl_inside = before
