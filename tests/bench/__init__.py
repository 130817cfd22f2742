"""The benchmarks of `just bench`; see docs/measurements.md."""
