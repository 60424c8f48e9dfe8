"""Benchmarks: both sides in one run, interleaved; ratios first."""
