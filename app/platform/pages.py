"""Pages, with every file served from here and a strict CSP: those of our own, and the API reference."""

from functools import cache
from html import escape
from pathlib import Path

import fastapi_offline
from fastapi import APIRouter
from starlette.responses import HTMLResponse, Response

from .errors import NotFound

_FILES = Path(fastapi_offline.__file__).parent / "static"
_TYPES = {
    "swagger-ui-bundle.js": "text/javascript",
    "swagger-ui.css": "text/css",
    "redoc.standalone.js": "text/javascript",
    "favicon.png": "image/png",
}
# Redoc has its maker's logo fetched from the maker's server, and no option against it.
_FOREIGN_LOGO, _OWN_LOGO = b"https://cdn.redoc.ly/redoc/logo-mini.svg", b"/docs/files/favicon.png"
# Nothing from elsewhere and nothing inline.
_OWN_CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
# The same, but inline styles: both programs write them by script.
_CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; font-src 'self'; "
    "connect-src 'self'; worker-src 'self' blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_START_SWAGGER = """SwaggerUIBundle({
  url: "/openapi.json",
  dom_id: "#page",
  deepLinking: true,
  persistAuthorization: true,
  displayOperationId: true,
  validatorUrl: null,
});
"""
_START_REDOC = 'Redoc.init("/openapi.json", {disableSearch: true}, document.getElementById("page"));\n'
_SCRIPTS = {"start-swagger.js": _START_SWAGGER, "start-redoc.js": _START_REDOC}


@cache
def _contents(name: str) -> bytes:
    return (_FILES / name).read_bytes().replace(_FOREIGN_LOGO, _OWN_LOGO)


def _page(title: str, *, scripts: list[str], styles: list[str]) -> HTMLResponse:
    links = "".join(f'<link rel="stylesheet" href="/docs/files/{name}">' for name in styles)
    tags = "".join(f'<script src="/docs/files/{name}"></script>' for name in scripts)
    html = (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<link rel="icon" href="/docs/files/favicon.png">{links}</head><body><div id="page"></div>{tags}</body></html>'
    )
    return HTMLResponse(html, headers={"Content-Security-Policy": _CSP})


def page_router(name: str, folder: Path) -> APIRouter:
    """`/NAME`: a page of our own, NAME.html of the folder, and the NAME.js and NAME.css that it loads."""
    router = APIRouter(include_in_schema=False)
    html = (folder / f"{name}.html").read_text()
    loaded = {
        f"{name}.{ending}": ((folder / f"{name}.{ending}").read_bytes(), media_type)
        for ending, media_type in (("js", "text/javascript"), ("css", "text/css"))
    }

    @router.get(f"/{name}")
    async def page() -> Response:
        return HTMLResponse(html, headers={"Content-Security-Policy": _OWN_CSP})

    @router.get(f"/{name}/files/{{file_name}}")
    async def file(file_name: str) -> Response:
        if file_name not in loaded:
            raise NotFound
        content, media_type = loaded[file_name]
        return Response(content, media_type=media_type)

    return router


def pages_router(title: str) -> APIRouter:
    """`/docs`, `/redoc` and the files that they load."""
    router = APIRouter(include_in_schema=False)

    @router.get("/docs")
    async def swagger() -> Response:
        return _page(title, scripts=["swagger-ui-bundle.js", "start-swagger.js"], styles=["swagger-ui.css"])

    @router.get("/redoc")
    async def redoc() -> Response:
        return _page(title, scripts=["redoc.standalone.js", "start-redoc.js"], styles=[])

    @router.get("/docs/files/{name}")
    async def file(name: str) -> Response:
        if name in _SCRIPTS:
            return Response(_SCRIPTS[name], media_type="text/javascript")
        if name in _TYPES:
            return Response(_contents(name), media_type=_TYPES[name])
        raise NotFound

    return router
