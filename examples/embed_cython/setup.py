"""Build the Cython example: Cython finds jrnl's .pxd files where jrnl is installed."""

from Cython.Build import cythonize
from setuptools import setup

setup(name="trials", py_modules=[], ext_modules=cythonize("trials.pyx"))
