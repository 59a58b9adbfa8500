"""Tests of bittern: everything is compared with the NumPy reference in tests/reference."""
