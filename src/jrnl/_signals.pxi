# Signals. Python runs a signal's handler in the main thread between two of its steps, and what it
# raises breaks off whatever is under way there. Writing the superblocks must not be broken off: it
# would leave the store on disk behind the one in memory.

cdef extern from "Python.h":
    int Py_AddPendingCall(int (*call)(void*) except -1, void* argument)

cdef enum:
    SIGNALS_MAX = 8              # in a row, each breaking off the same attempt


cdef bint _is_failure(problem) noexcept:
    """Whether what was raised is an answer; else something else has asked to be heard."""
    if isinstance(problem, OSError):
        return problem.errno is not None    # TimeoutError is what many a handler raises
    return isinstance(problem, JrnlError) or get_ident() != main_thread().ident


cdef int _raise_kept(void* kept) except -1:
    problem = <object>kept
    Py_DECREF(problem)
    raise problem


cdef int _raise_later(problem) except -1:
    """Have the main thread raise it as soon as Python's next step is done there."""
    Py_INCREF(problem)
    if Py_AddPendingCall(_raise_kept, <void*>problem) != 0:
        Py_DECREF(problem)
        raise problem    # far too many at once
    return 0


cdef object _to_the_end(call):
    cdef int k
    first = result = None
    for k in range(SIGNALS_MAX):
        try:
            result = call()
            break
        except BaseException as problem:
            if _is_failure(problem) or k == SIGNALS_MAX - 1:
                raise
            first = problem if first is None else first
    if first is not None:
        _raise_later(first)
    return result


def to_the_end(call, failed=None):
    """Call, and call again where a signal's handler has broken that off by raising; the result.

    What the first handler raised is raised once this has returned. What the call itself raises ends
    it at once.

    Parameters
    ----------
    call : callable
        ``call()`` may be broken off anywhere, and called again.
    failed : callable, optional
        ``failed(error)`` is called before an error of its own is raised.
    """
    try:
        return _to_the_end(call)
    except BaseException as error:
        if failed is not None:
            failed(error)
        raise
