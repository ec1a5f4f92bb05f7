from cpp_fixtures import kernels  # noqa: F401
