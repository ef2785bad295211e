"""Who is really calling: the peer of the connection, or whom a proxy names that we were told to trust."""

from collections.abc import Sequence

from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware
from uvicorn.protocols.utils import get_remote_addr, is_ssl

_IPV4_MAPPED = "::ffff:"


class TrustedProxies:
    """Around everything, so that `scope["client"]` and `scope["scheme"]` are right everywhere.

    By itself uvicorn believes the X-Forwarded-For of anybody on the same machine. What it made of the connection is
    therefore read again from the transport, and then the headers of our own trusted proxies, and of no others, count.
    """

    def __init__(self, app: ASGIApp, trusted: Sequence[str]) -> None:
        self._app: ASGIApp = ProxyHeadersMiddleware(app, list(trusted))  # type: ignore[arg-type, assignment]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        transport = getattr(getattr(receive, "__self__", None), "transport", None)
        if transport is not None and scope["type"] != "lifespan":
            client = get_remote_addr(transport)
            # So a socket for both versions writes an IPv4 address.
            scope["client"] = (client[0].removeprefix(_IPV4_MAPPED), client[1]) if client else None
            plain = "ws" if scope["type"] == "websocket" else "http"
            scope["scheme"] = f"{plain}s" if is_ssl(transport) else plain
        await self._app(scope, receive, send)
