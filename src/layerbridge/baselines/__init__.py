"""Methods to beat, one a file; each gives a ``Result`` that stands in the same table."""
