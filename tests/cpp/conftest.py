"""What only the C++ kernels promise; tests/ops holds what every backend promises."""

from cpp_fixtures import agree, isa, kernels, scene  # noqa: F401
