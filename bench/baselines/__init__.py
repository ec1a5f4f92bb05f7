"""Methods of other authors that fastmef is compared with and that no package on PyPI offers."""
