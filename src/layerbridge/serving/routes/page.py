"""GET / and /page/*: the web page, served from this package."""

from __future__ import annotations

import mimetypes
import os
from pathlib import Path

from fastapi import APIRouter
from starlette.exceptions import HTTPException
from starlette.responses import FileResponse, Response
from starlette.staticfiles import StaticFiles

router = APIRouter(include_in_schema=False)

FOLDER = Path(__file__).parent.parent / "page"

# The system's table may lack these or differ, and browsers are told not to guess.
_TYPES = {
    ".css": "text/css",
    ".js": "text/javascript",
    ".svg": "image/svg+xml",
    ".woff2": "font/woff2",
}
for _suffix, _type in _TYPES.items():
    mimetypes.add_type(_type, _suffix)


class _Files(StaticFiles):
    def lookup_path(self, path: str) -> tuple[str, os.stat_result | None]:
        """Returns nothing for impossible file names, such as one with a NUL."""
        try:
            return super().lookup_path(path)
        except (OSError, ValueError):
            return "", None


files = _Files(directory=FOLDER, check_dir=False)


@router.get("/")
async def page() -> Response:
    """Serves the page."""
    index = FOLDER / "index.html"
    if not index.is_file():
        raise HTTPException(404)
    # Revalidated, as the page and its files change with the version.
    return FileResponse(index, headers={"Cache-Control": "no-cache"})
