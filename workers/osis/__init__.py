"""The objects and the database of a context, as scripts use them."""
