"""Methods of other authors that no package on PyPI offers, and plain training for comparison."""
