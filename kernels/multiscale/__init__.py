"""multiscale_fuse: ``reduce`` halves a level, ``blend`` fuses one; each with its backward pass."""
