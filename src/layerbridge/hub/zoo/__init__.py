"""The zoo: small open models that need no model hub, for first steps and tests.

Importing this is cheap: torch and transformers are loaded only while a model is converted.
"""

from layerbridge.hub.zoo.catalogue import Entry, entries, entry
from layerbridge.hub.zoo.store import checksums, home, is_present, path, pull

__all__ = ["Entry", "checksums", "entries", "entry", "home", "is_present", "path", "pull"]
