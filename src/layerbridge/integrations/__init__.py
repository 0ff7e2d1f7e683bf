"""Bridges in other people's programs."""
