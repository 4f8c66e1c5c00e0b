"""C files of this directory compiled to shared libraries, once a process, with nothing kept."""

import atexit
import ctypes
import functools
import pathlib
import subprocess
import tempfile

SOURCES = pathlib.Path(__file__).parent

# No -march=native: the yardstick is what a distribution would ship. memcpy is libc's, which picks
# its own kernel for the processor at run time.
GCC = ("gcc", "-O3", "-fPIC", "-shared", "-Wall", "-Wextra")


class BuildError(Exception):
    """The C compiler or a library it needs is missing."""


@functools.cache
def _directory():
    folder = tempfile.TemporaryDirectory(prefix="jrnl-bench-")
    atexit.register(folder.cleanup)
    return pathlib.Path(folder.name)


@functools.cache
def build(name, *extra):
    """Compile `name`.c, with `extra` arguments at the end of gcc's line; the library's path."""
    library = _directory() / f"{name}.so"
    command = [*GCC, "-o", str(library), str(SOURCES / f"{name}.c"), *extra]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise BuildError("gcc is not installed") from error
    if done.returncode:
        raise BuildError(f"{' '.join(command)}\n{done.stderr}")
    return str(library)


def load(name, *extra):
    """As `build`, and load it; calls into it release the GIL."""
    return ctypes.CDLL(build(name, *extra))


def declare(library, result, name, *arguments):
    """The C function `name` with its types."""
    function = getattr(library, name)
    function.restype = result
    function.argtypes = arguments
    return function
