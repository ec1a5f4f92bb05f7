"""softmax_fuse and its backward pass."""
