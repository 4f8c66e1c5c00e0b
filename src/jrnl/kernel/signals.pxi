# Signals. Python runs a signal's handler in the main thread between two of its steps, and what it
# raises breaks off whatever is under way there. Writing the superblocks must not be broken off: it
# would leave the store on disk behind the one in memory.
#
# Takes: lock

cdef extern from "Python.h":
    int Py_AddPendingCall(int (*call)(void*) except -1, void* argument)

cdef enum:
    SIGNALS_MAX = 8              # in a row, each breaking off the same attempt
    SIGNALS_MOST = 1000          # ... of what is harmless to begin again


cdef bint _is_failure(problem, own) noexcept:
    """Whether what was raised is an answer; else something else has asked to be heard.

    Nothing in here runs Python's own code: another handler could raise where nobody hears it.

    `own`: what else than a device's errors the call raises itself, where that is known.
    """
    if getattr(problem, "_jrnl_device", False):
        return True
    if own is not None:
        return isinstance(problem, own) or not jrnl_in_main_thread()
    if isinstance(problem, StoreBusy):
        return False    # what a handler's own call was told
    if isinstance(problem, OSError):
        return problem.errno is not None    # TimeoutError is what many a handler raises
    return isinstance(problem, JrnlError) or not jrnl_in_main_thread()


cdef int _raise_deferred(void* deferred) except -1:
    problem = <object>deferred
    Py_DECREF(problem)
    raise problem


cdef int _raise_later(problem) except -1:
    """Have the main thread raise it as soon as Python's next step is done there."""
    Py_INCREF(problem)
    if Py_AddPendingCall(_raise_deferred, <void*>problem) != 0:
        Py_DECREF(problem)
        raise problem    # far too many at once
    return 0


cdef object _to_the_end(call, own=None):
    cdef int k, most = SIGNALS_MAX if own is None else SIGNALS_MOST
    first = result = None
    for k in range(most):
        try:
            result = call()
            break
        except BaseException as problem:
            if _is_failure(problem, own) or k == most - 1:
                raise
            if first is None and not isinstance(problem, MemoryError):
                first = problem    # memory that can be had the next time was not missing
    if first is not None:
        _raise_later(first)
    return result


cdef class Block:
    """A ``with`` block whose beginning and end are each one step: no handler comes in between.

    `_begin`, which gives what the block is entered with, and `_end` are called again where a
    handler has broken them off by raising; that is raised as soon as they are done.
    """

    cdef bint entered

    def __enter__(self):
        if self.entered:
            raise InvalidArgument("this block is open already; call again for another one")
        result = _to_the_end(self._begin)
        self.entered = True
        return result

    def __exit__(self, kind, error, trace):
        if self.entered:
            self.entered = False
            _to_the_end(_Ending(self, kind is not None))


cdef class _Ending:
    cdef Block block
    cdef bint failed

    def __cinit__(self, Block block, bint failed):
        self.block = block
        self.failed = failed

    def __call__(self):
        self.block._end(failed=self.failed)


cdef class Closing:
    """A block that ends with `close`, in the same way."""

    def __exit__(self, kind, error, trace):
        _to_the_end(self.close)


def to_the_end(call, failed=None, own=None):
    """Call, and call again where a signal's handler has broken that off by raising; the result.

    What the first handler raised is raised once this has returned. What the call itself raises ends
    it at once.

    Parameters
    ----------
    call : callable
        ``call()`` may be broken off anywhere, and called again.
    failed : callable, optional
        ``failed(error)`` is called before an error of its own is raised.
    own : class of exceptions, optional
        All that it raises itself, but for what a device has met with: whatever else comes is a
        handler's.
    """
    try:
        return _to_the_end(call, own)
    except BaseException as error:
        if failed is not None:
            failed(error)
        raise


# Python looks for signals between its own steps. A long call that changes nothing looks itself,
# between two parts, so that it ends soon where a handler raises. What is about to change something
# does not: it is finished, and the handler runs then.
