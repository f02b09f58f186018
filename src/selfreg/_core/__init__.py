"""Compiled kernels and their pure-Python twins. Nothing here validates; see `selfreg._util.validate`."""
