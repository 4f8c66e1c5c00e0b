"""Build the C example: all that it needs of jrnl is one folder with one header."""

from setuptools import Extension, setup

import jrnl

setup(
    name="trials",
    py_modules=[],
    ext_modules=[Extension("trials", ["trials.c"], include_dirs=[jrnl.get_include()])],
)
