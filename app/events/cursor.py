"""Cursors into the event log: opaque to clients, unforgeable, and good for one log only.

A position is a change stream's resume token, whose hexadecimal form sorts in commit order. A cursor adds which log it
belongs to (the events collection's UUID) and an event that was in that log when the cursor was made: a database that
was restored to an earlier time, and then lived another life, has the same UUID but not that event.
"""

import hmac
from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import dataclass
from uuid import UUID

from bson import ObjectId, Timestamp

_MAC_BYTES = 10
_UUID_BYTES = 16
_ID_BYTES = 12
_NO_EVENT = bytes(_ID_BYTES)
# Where a token holds the time of the commit: one byte of type, four of seconds, four of the count within the second.
_SECONDS = slice(1, 5)
_COUNT = slice(5, 9)


@dataclass(frozen=True, slots=True)
class LogPosition:
    """A place in the log: right behind whatever `token` names."""

    token: bytes
    known_event: ObjectId | None

    @property
    def at(self) -> Timestamp:
        """The commit time of what stands here."""
        return Timestamp(int.from_bytes(self.token[_SECONDS]), int.from_bytes(self.token[_COUNT]))


class Cursors:
    """Writes and reads cursors; every copy of the service has the same `key`."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def encode(self, log: UUID, position: LogPosition) -> str:
        known = position.known_event.binary if position.known_event else _NO_EVENT
        payload = log.bytes + known + position.token
        return _text_of(self._mac(payload) + payload)

    def decode(self, log: UUID, cursor: str) -> LogPosition | None:
        """The position; None for what is not a cursor of ours into this log."""
        try:
            raw = urlsafe_b64decode(cursor.encode("ascii") + b"=" * (-len(cursor) % 4))
        except ValueError:
            return None
        mac, payload = raw[:_MAC_BYTES], raw[_MAC_BYTES:]
        # The decoder skips what is not base64; only the text that we made is good.
        is_ours = hmac.compare_digest(mac, self._mac(payload)) and _text_of(raw) == cursor
        if not is_ours or payload[:_UUID_BYTES] != log.bytes:
            return None
        known = payload[_UUID_BYTES : _UUID_BYTES + _ID_BYTES]
        token = payload[_UUID_BYTES + _ID_BYTES :]
        return LogPosition(token, None if known == _NO_EVENT else ObjectId(known))

    def _mac(self, payload: bytes) -> bytes:
        return hmac.digest(self._key, payload, "sha256")[:_MAC_BYTES]


def _text_of(raw: bytes) -> str:
    return urlsafe_b64encode(raw).decode().rstrip("=")
