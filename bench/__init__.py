"""Benchmarks and checks of compiled code; README.md is the method."""
