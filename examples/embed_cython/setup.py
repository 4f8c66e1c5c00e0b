"""Build the Cython example: Cython finds jrnl's api.pxd where jrnl is installed, with jrnl.h."""

from Cython.Build import cythonize
from setuptools import Extension, setup

import jrnl

trials = Extension("trials", ["trials.pyx"], include_dirs=[jrnl.get_include()])
setup(name="trials", py_modules=[], ext_modules=cythonize(trials))
