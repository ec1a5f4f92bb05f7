"""Benchmarks and checks of compiled code; README.md describes the method."""
