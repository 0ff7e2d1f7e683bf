"""Pictures of pages as the browser tests see them, to be looked at."""

from __future__ import annotations

import os
from pathlib import Path

FOLDER = Path(os.environ.get("LAYERBRIDGE_SCREENSHOTS") or Path(__file__).parent / "screenshots")


def keep(page, name):
    """The picture of the whole page, light and dark; returns both files by scheme."""
    files = {}
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
        files[scheme] = FOLDER / f"{name}-{scheme}.png"
        page.screenshot(path=files[scheme], full_page=True)
    page.emulate_media(color_scheme="light", reduced_motion="reduce")
    return files
