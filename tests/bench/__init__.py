"""Benchmarks, side by side with a local dockerd: `make bench`, or `python -m tests.bench [CASE…]`."""
