"""Triton kernels, one file an operation; installed as ``fastmef.kernels``."""
