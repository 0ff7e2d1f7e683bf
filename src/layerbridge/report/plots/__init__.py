"""Figures of result files, of a run's weight log, and of the tokens of one text.

Each takes what it draws and the path to write, which ends in .svg or .png, and returns the path.
``figure`` of each draws without writing: ``accuracy_by_language.figure(results)``.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
