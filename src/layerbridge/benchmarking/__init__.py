"""Benchmarks: what the bridge costs in time and memory, and what it saves."""
