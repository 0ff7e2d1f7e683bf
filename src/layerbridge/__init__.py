"""layerbridge: an English-centric language model that understands a hundred languages."""

from layerbridge.version import __version__

__all__ = ["__version__"]
