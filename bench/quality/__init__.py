"""Compare scores, brightness and robustness of fastmef with those of other methods."""
