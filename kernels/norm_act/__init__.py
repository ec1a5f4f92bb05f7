"""Batch normalisation and ReLU of channels-last images, and what follows them."""
