"""ssim: the map, the mean, and both backward passes."""
