"""The method: text → hidden states → fused states → soft prompt → language model."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
