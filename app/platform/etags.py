"""Versions as entity tags: preconditions of writes and of reads (RFC 9110 §13)."""

import re

from fastapi import Request

from .errors import VersionConflict

# An entity tag may hold commas, so a list of them can't be split at those (RFC 9110 §8.8.3); elements may be empty.
_TAG = r'(W/)?"([\x21\x23-\x7e\x80-\xff]*)"'
_TAGS = re.compile(rf"[ \t,]*(?:{_TAG}[ \t]*(?:,[ \t,]*|$))+")
_EACH_TAG = re.compile(_TAG)


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
    if not _TAGS.fullmatch(header):
        return False
    return any(given == tag and (weak or not is_weak) for is_weak, given in _EACH_TAG.findall(header))
