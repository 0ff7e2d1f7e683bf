"""GET / and /page/*: the playground, all of it from this package."""

from __future__ import annotations

import mimetypes
from pathlib import Path

from fastapi import APIRouter
from starlette.exceptions import HTTPException
from starlette.responses import FileResponse, Response
from starlette.staticfiles import StaticFiles

router = APIRouter(include_in_schema=False)

FOLDER = Path(__file__).parent.parent / "page"

# What a system's own table may lack or have otherwise; browsers are told not to guess.
_TYPES = {
    ".css": "text/css",
    ".js": "text/javascript",
    ".svg": "image/svg+xml",
    ".woff2": "font/woff2",
}
for _ending, _type in _TYPES.items():
    mimetypes.add_type(_type, _ending)

files = StaticFiles(directory=FOLDER, check_dir=False)


@router.get("/")
async def page() -> Response:
    """The playground."""
    index = FOLDER / "index.html"
    if not index.is_file():
        raise HTTPException(404)
    # The page may change with the next version, and its files with it.
    return FileResponse(index, headers={"Cache-Control": "no-cache"})
