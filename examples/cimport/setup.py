"""Cython code that calls selfreg's kernel; with selfreg installed: python setup.py build_ext --inplace"""

from Cython.Build import cythonize
from setuptools import setup

setup(name="new_state", py_modules=[], ext_modules=cythonize("new_state.pyx"))
