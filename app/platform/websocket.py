"""A WebSocket under uvicorn, where ASGI has no word for it: who does not read, what is too large, when to let go.

ASGI's `send` waits until the reader has caught up, even to send a close frame, so somebody who stops reading could be
neither told nor got rid of. So this writes to the transport of uvicorn's own protocol object, which is the receiver of
the bound method that ASGI passes as `receive`. Tests on a real server hold this together; see decision 0011.
"""

import asyncio
import time
from contextlib import suppress

from starlette.types import Receive, Send
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

MAX_MESSAGE_BYTES = 64 * 1024
# A reader that has this much before it is given no more until it has read most of it.
HIGH_WATER_BYTES = 64 * 1024
# How long somebody may take, once closing, to read what is on its way and the close frame behind it; or twice that.
CLOSE_GRACE_S = 10.0
MINUTE_S = 60.0
MAX_REASON_BYTES = 123
_EXTENSIONS = "Sec-WebSocket-Extensions"
_TEXT, _SHORT, _LONG = 0x81, 126, 127
_MAX_SHORT, _MAX_MEDIUM = 125, 0xFFFF


def text_frame(payload: bytes) -> bytes:
    """A final, unmasked text frame (RFC 6455 §5.2): what a server sends is the same for all who get it."""
    size = len(payload)
    if size <= _MAX_SHORT:
        return bytes([_TEXT, size]) + payload
    if size <= _MAX_MEDIUM:
        return bytes([_TEXT, _SHORT]) + size.to_bytes(2) + payload
    return bytes([_TEXT, _LONG]) + size.to_bytes(8) + payload


class TooManyMessages(Exception):
    """The client says more than it can have to say."""


class WebSocketConnection:
    """One WebSocket, whose client may send so many messages a minute."""

    def __init__(self, receive: Receive, send: Send, *, messages_per_minute: int) -> None:
        protocol = getattr(receive, "__self__", None)
        if not isinstance(protocol, WebSocketsSansIOProtocol):
            message = "live events need uvicorn with its websockets implementation, which is its default"
            raise TypeError(message)
        self._protocol = protocol
        self._receive = receive
        self._send = send
        self._allowed = messages_per_minute
        self._minute = time.monotonic()
        self._messages = 0

    async def accept(self, subprotocol: str | None = None) -> None:
        """Completes the handshake: no compression, no message over 64 KiB (closed with 1009)."""
        await self._receive()
        # Compression costs a context of tens of kilobytes per socket, and would make a frame another one for each.
        self._protocol.conn.extensions = []
        if _EXTENSIONS in self._protocol.response.headers:
            del self._protocol.response.headers[_EXTENSIONS]
        self._protocol.conn.max_message_size = MAX_MESSAGE_BYTES
        self._protocol.transport.set_write_buffer_limits(high=HIGH_WATER_BYTES)
        self._protocol.handle_ping = self._answer_ping  # type: ignore[method-assign]
        await self._send({"type": "websocket.accept", "subprotocol": subprotocol})
        self._look_later()

    async def read(self) -> str | bytes | None:
        """The next message; None once the connection is closed, from whichever side. Raises `TooManyMessages`."""
        message = await self._receive()
        if message["type"] != "websocket.receive":
            return None
        moment = time.monotonic()
        if moment - self._minute > MINUTE_S:
            self._messages, self._minute = 0, moment
        self._messages += 1
        if self._messages > self._allowed:
            raise TooManyMessages
        text: str | None = message.get("text")
        return text if text is not None else message["bytes"]

    @property
    def is_open(self) -> bool:
        return not (self._protocol.close_sent or self._protocol.transport.is_closing())

    @property
    def is_keeping_up(self) -> bool:
        """Whether the reader has less than the high-water mark before it."""
        return self._protocol.writable.is_set()

    def write(self, frames: bytes) -> None:
        """Puts whole frames on their way, without waiting."""
        if self.is_open:
            self._protocol.transport.write(frames)

    def offer(self, frames: bytes) -> bool:
        """The same, if the reader keeps up; called for each event and reader, so without detours."""
        protocol = self._protocol
        if not protocol.writable.is_set():
            return False
        if not (protocol.close_sent or protocol.transport.is_closing()):
            protocol.transport.write(frames)
        return True

    async def caught_up(self) -> None:
        """Returns when the reader is keeping up again, or is gone."""
        await self._protocol.writable.wait()

    async def close(self, code: int, reason: str = "") -> None:
        """Sends a close frame behind what is on its way; of the reason what fits (123 bytes, RFC 6455 §5.5)."""
        if self._protocol.close_sent:
            return
        # Else `send` would wait for a reader that may never read.
        self._protocol.writable.set()
        with suppress(OSError):
            fitting = reason.encode()[:MAX_REASON_BYTES].decode(errors="ignore")
            await self._send({"type": "websocket.close", "code": code, "reason": fitting})

    def _answer_ping(self) -> None:
        """As long as answers are read: those to somebody who pings and does not read would pile up without end."""
        pong = b"".join(self._protocol.conn.data_to_send())
        if self.is_open and self.is_keeping_up:
            self._protocol.transport.write(pong)

    def _look_later(self) -> None:
        asyncio.get_running_loop().call_later(CLOSE_GRACE_S, self._look, self.is_open)

    def _look(self, was_open: bool) -> None:  # noqa: FBT001 - called by the loop alone
        """Breaks off what is closing and is not read: asyncio would keep it, and what it holds, until it is."""
        if self._protocol.disconnected:
            return
        if was_open or self.is_open:
            self._look_later()
        else:
            self._protocol.transport.abort()
