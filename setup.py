"""Build jrnl's one extension module. All else about the package stands in pyproject.toml.

The environment picks the variant:

JRNL_DEBUG=1
    Bounds checks and assertions, in Cython and in C.
JRNL_SANITIZE=1
    The debug build under AddressSanitizer and UndefinedBehaviorSanitizer. Python itself knows
    neither, so their libraries must be preloaded: `make sanitize` does that.
JRNL_SABOTAGE=1
    A build in which tests can take the core's rules away, to see that each one is missed: `make
    sabotage` runs them.
JRNL_FAST=1
    Not optimised: what is quickest to compile after an edit. `make fast` runs tests on it.

They don't mix. Each variant builds in a folder of its own, so that none takes up another's objects.
"""

import gc
import os
from glob import glob

from Cython.Build import cythonize
from setuptools import Extension, setup


def switched_on(variant: str) -> bool:
    return os.environ.get(f"JRNL_{variant.upper()}", "") not in ("", "0")


VARIANT = next(filter(switched_on, ("sanitize", "debug", "sabotage", "fast")), "release")
DEBUG = VARIANT in ("sanitize", "debug")
BUILD_FOLDER = f"build/{VARIANT}"

# Type-based alias analysis is off: the core reads and writes headers through byte pointers. So is a
# warning that is about people's code, and takes gcc longer in Cython's than to compile it.
level = {"release": "-O3", "fast": "-O0"}.get(VARIANT, "-O1")
compile_args = [level, "-g0" if VARIANT == "fast" else "-g1", "-fno-strict-aliasing"]
compile_args += ["-Wno-misleading-indentation"]
link_args = []
if DEBUG:
    compile_args += ["-UNDEBUG", "-DJRNL_DEBUG"]
else:
    # CYTHON_WITHOUT_ASSERTIONS makes Cython's `assert` cost what C's does under NDEBUG: nothing.
    compile_args += ["-DNDEBUG", "-DCYTHON_WITHOUT_ASSERTIONS"]
if VARIANT == "sabotage":
    compile_args += ["-DJRNL_SABOTAGE"]
if VARIANT == "sanitize":
    sanitizers = ["-fsanitize=address,undefined", "-fno-sanitize-recover=undefined"]
    compile_args += [*sanitizers, "-fno-omit-frame-pointer"]
    link_args += sanitizers

core = Extension(
    "jrnl._core",
    sources=["src/jrnl/_core.pyx"],
    depends=sorted(
        path
        for pattern in ("*.pxi", "*.pxd", "*.h")
        for path in glob(f"src/jrnl/**/{pattern}", recursive=True)
    ),
    include_dirs=["src/jrnl/include", "src/jrnl/kernel"],
    libraries=["dl", "pthread"],
    extra_compile_args=compile_args,
    extra_link_args=link_args,
)

# Cython makes one large tree and drops little of it: looking for garbage is a quarter of its time.
gc.disable()

setup(
    ext_modules=cythonize(
        [core],
        build_dir=f"{BUILD_FOLDER}/cython",
        include_path=["src"],
        language_level=3,
        compiler_directives={
            "auto_pickle": False,  # nothing of the core is pickled
            "binding": True,
            "boundscheck": DEBUG,
            "cdivision": True,
            "embedsignature": True,
            "initializedcheck": DEBUG,
            # Off in the debug build too: there a negative index is then an error like any other
            # index out of bounds, where wrapping would hide it.
            "wraparound": False,
        },
    ),
    options={"build": {"build_base": BUILD_FOLDER}},
)
