"""Versions as entity tags: preconditions of writes and of reads (RFC 9110 §13)."""

import re

from fastapi import Request

from .errors import VersionConflict

_ETAG = re.compile(r'\s*(W/)?"([^"]*)"\s*')


def etag(version: int) -> str:
    return f'"{version}"'


def is_unchanged(request: Request, version: int) -> bool:
    """Whether `If-None-Match` says that the client has this version (RFC 9110 §13.1.2, weak comparison)."""
    header = _joined(request, "if-none-match")
    return header is not None and _names(header, str(version), weak=True)


class IfMatch:
    """The precondition of a write: the `If-Match` header (RFC 9110 §13.1.1), if there is one."""

    def __init__(self, header: str | None = None) -> None:
        self._header = header

    @classmethod
    def of(cls, request: Request) -> "IfMatch":
        return cls(_joined(request, "if-match"))

    def check(self, version: int) -> None:
        """Raises `VersionConflict` unless the precondition holds for the current version."""
        if self._header is not None and not _names(self._header, str(version), weak=False):
            raise VersionConflict(version)


def _joined(request: Request, name: str) -> str | None:
    """A list header, which may come in several lines (RFC 9110 §5.2)."""
    values = request.headers.getlist(name)
    return ", ".join(values) if values else None


def _names(header: str, tag: str, *, weak: bool) -> bool:
    if header.strip() == "*":
        return True
    found = (_ETAG.fullmatch(part) for part in header.split(","))
    return any(match and match[2] == tag and (weak or not match[1]) for match in found)
