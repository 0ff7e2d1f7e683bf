"""Methods to beat and what they share; each gives a ``Result`` that stands in the same table."""
