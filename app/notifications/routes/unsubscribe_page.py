"""The page that the last link of a mail opens: one button, of our own files alone and a strict CSP."""

from pathlib import Path

from fastapi import APIRouter
from starlette.responses import HTMLResponse, Response

from app.platform.errors import NotFound

router = APIRouter(include_in_schema=False)

_FILES = Path(__file__).parents[1] / "static"
_PAGE = (_FILES / "unsubscribe.html").read_text()
_LOADED = {
    name: ((_FILES / name).read_bytes(), media_type)
    for name, media_type in {"unsubscribe.js": "text/javascript", "unsubscribe.css": "text/css"}.items()
}
_CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


@router.get("/unsubscribe")
async def unsubscribe_page() -> Response:
    """Changes nothing: programs open the links of a mail before people do."""
    return HTMLResponse(_PAGE, headers={"Content-Security-Policy": _CSP})


@router.get("/unsubscribe/files/{name}")
async def unsubscribe_page_file(name: str) -> Response:
    if name not in _LOADED:
        raise NotFound
    content, media_type = _LOADED[name]
    return Response(content, media_type=media_type)
