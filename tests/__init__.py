"""Tests of bittern: everything is compared with the NumPy reference in tests/reference."""

import os

# Before NumPy is imported: the threads of its library wait for each other by spinning, and tests run beside others.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
