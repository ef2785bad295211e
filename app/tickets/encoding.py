"""Tickets from the bytes that the database sends to the bytes that clients get."""

import bson
from bson.codec_options import CodecOptions

from app.platform.memory import Memory
from app.platform.wire import JsonObject, to_json

from .schemas import ticket_out

_OPTIONS: CodecOptions[JsonObject] = CodecOptions(tz_aware=True)
MEMORY_BYTES = 8 * 1024 * 1024
# Of the objects around two short texts of bytes.
_OVERHEAD = 200

# What a ticket looks like depends on its stored bytes alone. So this is right whoever changes a ticket and whether or
# not its version says so, and comparing half a kilobyte is far cheaper than decoding, completing and encoding it.
_known: Memory[bytes, bytes] = Memory(MEMORY_BYTES)


def ticket_json(stored: bytes) -> bytes:
    """`TicketOut` as JSON of a ticket in BSON."""
    text = _known.get(stored)
    if text is None:
        text = to_json(ticket_out(bson.decode(stored, _OPTIONS)))
        _known.put(stored, text, len(stored) + len(text) + _OVERHEAD)
    return text
