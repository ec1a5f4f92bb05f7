"""What the kernels share: launching, windows, tiles, reflect padding, variants to compile."""
