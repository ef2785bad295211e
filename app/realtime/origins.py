"""Which web pages may open a WebSocket: browsers let any page try, and leave it to the server (RFC 6455 §10.2)."""

from collections.abc import Container, Mapping
from urllib.parse import urlsplit


def is_allowed_origin(headers: Mapping[str, str], allowed: Container[str]) -> bool:
    """Whether the `Origin` is this host or one of those allowed. Programs that are no browser send none.

    The scheme is not compared, since a proxy before the service may end TLS.
    """
    origin = headers.get("origin")
    if origin is None or origin in allowed:
        return True
    return bool(origin) and _host_of(origin) == _host_of(f"//{headers.get('host', '')}") is not None


def _host_of(url: str) -> tuple[str, int | None] | None:
    """Host and port; a scheme's own port is none, whichever it is."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return None
    if not parts.hostname:
        return None
    return parts.hostname, None if port in (80, 443) else port
