"""local_variance, sobel_gradient, gamma_weights, and one backward pass for all three."""
