# A pinned state, as the Python layer sees it.
#
# Takes: lock, errors, reclaim, engine

cdef void drop_pin(Core* core, PinData* pin) noexcept:
    """Release a pin now, or when the lock is next taken; see core_drop."""
    cdef Dropped* dropped
    if not core_try(core):
        dropped = <Dropped*>calloc(1, sizeof(Dropped))
        if dropped is not NULL:
            pin.name = NULL
            dropped.pin = pin
            jrnl_push(<void**>&core.dropped, dropped)
            return
        enter_anyway(core)
    pin_close(pin)
    core_unlock(core)


@cython.no_gc_clear
cdef class PinnedState:
    """Keeps state `seq`, and every later one, in the journal until it is released or dropped.

    Parameters
    ----------
    engine : Engine
    seq : int
        A state of the window.
    needs : int
        No entry after this state leaves.
    name : str, optional
        The mark whose state it is; for messages.
    """

    cdef PinData* data
    cdef readonly Engine engine
    cdef readonly object name

    def __cinit__(self, Engine engine not None, uint64_t seq, uint64_t needs, str name=None):
        cdef Core* core = engine.core
        self.engine = engine
        self.name = name
        enter(core)
        self.data = <PinData*>calloc(1, sizeof(PinData))
        if self.data is NULL:
            core_unlock(core)
            raise_status(E_NO_MEMORY, core)
        self.data.core = core
        self.data.seq = seq
        self.data.needs = needs
        if name is not None:
            self.data.name = <void*>name
        self.data.next = core.reclaim.pins
        if core.reclaim.pins is not NULL:
            core.reclaim.pins.previous = self.data
        core.reclaim.pins = self.data
        pins_count(core)
        core_unlock(core)

    def __dealloc__(self):
        if self.data is not NULL:
            drop_pin(self.engine.core, self.data)

    def release(self):
        """Let the state go. Doing so twice is fine."""
        cdef PinData* data
        enter(self.engine.core)
        data = self.data
        self.data = NULL
        if data is not NULL:
            pin_close(data)
        core_unlock(self.engine.core)

    def set_aside(self, bint aside):
        """Say that a rewind may drop the state: who rewinds releases it."""
        with self.engine:
            if self.data is not NULL:
                self.data.aside = aside
                pins_count(self.engine.core)

    @property
    def seq(self):
        """int: the seq under which the state is kept now, or None once it is released."""
        return None if self.data is NULL else self.data.seq

    @property
    def needs(self):
        """int: no entry after this state leaves; None once it is released."""
        return None if self.data is NULL else self.data.needs
