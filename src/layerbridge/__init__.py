"""layerbridge: an English-centric language model that understands a hundred languages.

The public names are listed in ``__init__.pyi`` and imported on first use, so that
``import layerbridge`` costs nothing. transformers' auto classes know bridges from then on.
"""

import lazy_loader

from layerbridge.models import auto_registration as _auto_registration

_auto_registration.install()
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
