"""Tests for the promises of the C++ kernels alone; tests/ops tests those of all backends."""

from cpp_fixtures import agree, isa, kernels, scene  # noqa: F401
