"""Fusion methods of other authors that no package on PyPI offers."""
