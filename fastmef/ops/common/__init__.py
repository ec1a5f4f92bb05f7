"""What the operations share: their declaration, tensors as kernels take them, autograd helpers."""
