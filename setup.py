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

Each variant builds in a folder of its own, so that none takes up another's objects.
"""

import os
from glob import glob

from Cython.Build import cythonize
from setuptools import Extension, setup


def switched_on(variable: str) -> bool:
    return os.environ.get(variable, "") not in ("", "0")


SANITIZE = switched_on("JRNL_SANITIZE")
DEBUG = SANITIZE or switched_on("JRNL_DEBUG")
SABOTAGE = switched_on("JRNL_SABOTAGE")
if SABOTAGE and DEBUG:
    raise SystemExit("JRNL_SABOTAGE is a variant of its own: without JRNL_DEBUG, JRNL_SANITIZE")
VARIANT = "sanitize" if SANITIZE else "debug" if DEBUG else "sabotage" if SABOTAGE else "release"
BUILD_FOLDER = f"build/{VARIANT}"

# Type-based alias analysis is off: the core reads and writes headers through byte pointers.
compile_args = ["-g1", "-fno-strict-aliasing", "-O3" if VARIANT == "release" else "-O1"]
link_args = []
if DEBUG:
    compile_args += ["-UNDEBUG", "-DJRNL_DEBUG"]
else:
    # CYTHON_WITHOUT_ASSERTIONS makes Cython's `assert` cost what C's does under NDEBUG: nothing.
    compile_args += ["-DNDEBUG", "-DCYTHON_WITHOUT_ASSERTIONS"]
if SABOTAGE:
    compile_args += ["-DJRNL_SABOTAGE"]
if SANITIZE:
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

setup(
    ext_modules=cythonize(
        [core],
        build_dir=f"{BUILD_FOLDER}/cython",
        language_level=3,
        compiler_directives={
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
