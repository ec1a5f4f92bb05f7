"""Shared parts of the operations: declaration, tensors in the form of kernels, autograd helpers."""
