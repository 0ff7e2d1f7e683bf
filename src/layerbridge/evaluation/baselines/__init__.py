"""Methods to compare with; each gives a ``Result`` for the same tables."""
