"""GraphiQL as a page for browsers, with every file served from here and a strict CSP."""

from functools import cache
from pathlib import Path

from fastapi import APIRouter
from starlette.responses import HTMLResponse, Response

from app.platform.errors import NotFound

_FILES = Path(__file__).parent / "static"
_STYLES = ("graphiql.min.css", "explorer.css")
# In the order in which they need each other.
_SCRIPTS = (
    "react.production.min.js",
    "react-dom.production.min.js",
    "graphiql.min.js",
    "graphql-ws.min.js",
    "start-graphiql.js",
)
_TYPES = dict.fromkeys(_STYLES, "text/css") | dict.fromkeys(_SCRIPTS, "text/javascript")
# Nothing from elsewhere and no inline script; "connect-src 'self'" covers the WebSocket of the same origin.
# Inline styles: GraphiQL's dialogs write one by script.
_CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; font-src data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_LINKS = "".join(f'<link rel="stylesheet" href="/graphql/files/{name}">' for name in _STYLES)
_TAGS = "".join(f'<script src="/graphql/files/{name}"></script>' for name in _SCRIPTS)
_HTML = (
    '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>GraphQL</title>'
    '<meta name="viewport" content="width=device-width, initial-scale=1">'
    f'<link rel="icon" href="/docs/files/favicon.png">{_LINKS}</head><body><div id="page"></div>{_TAGS}</body></html>'
)


def explorer_page() -> Response:
    """What a browser gets at `/graphql`, where other clients get their answers."""
    return HTMLResponse(_HTML, headers={"Content-Security-Policy": _CSP, "Vary": "Accept"})


def explorer_router() -> APIRouter:
    """The files that the page loads."""
    router = APIRouter(include_in_schema=False)

    @router.get("/graphql/files/{name}")
    async def file(name: str) -> Response:
        if name not in _TYPES:
            raise NotFound
        return Response(_contents(name), media_type=_TYPES[name])

    return router


@cache
def _contents(name: str) -> bytes:
    return (_FILES / name).read_bytes()
