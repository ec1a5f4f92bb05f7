"""The proof table: scores, brightness and behaviour of fastmef beside other methods."""
