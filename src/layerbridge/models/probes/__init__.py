"""Probes at load: what a backbone does with a few tokens, asked of the model itself.

No list of families says what works. A model that breaks what the method relies on is refused in
one line; where a slower way gives the same numbers, that way is taken.
"""
