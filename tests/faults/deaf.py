"""Clients that do not read: a live stream over a bare socket, whose bytes are looked at only afterwards."""

import base64
import os
import socket
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, Self
from urllib.parse import urlencode

from tests.services import PATIENCE_S, Person, Service

RECEIVE_BUFFER = 4096
CLOSE, PING = 8, 9
Message = tuple[int, bytes]
# As Linux writes it in /proc/net/tcp.
_ESTABLISHED = "01"


class Deaf:
    """A stream that was begun in order, and is not read from then on."""

    def __init__(self, service: Service, who: Person, path: str, options: dict[str, str], **headers: str) -> None:
        self._socket = socket.socket()
        # Before connecting: it decides what the other side is offered.
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
        self._socket.settimeout(PATIENCE_S)
        self._socket.connect(("127.0.0.1", service.port))
        lines = [f"GET {path}?{urlencode(options)} HTTP/1.1"]
        lines += [f"{name}: {value}" for name, value in {"Host": "service", **who.headers, **headers}.items()]
        self._socket.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += self._socket.recv(1)
        self.status = int(head.split()[1])

    @classmethod
    def websocket(cls, service: Service, who: Person, **options: str) -> Self:
        key = base64.b64encode(os.urandom(16)).decode()
        upgrade = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13"}
        return cls(service, who, "/ws", options, **upgrade, **{"Sec-WebSocket-Key": key})

    @classmethod
    def stream(cls, service: Service, who: Person, **options: str) -> Self:
        return cls(service, who, "/api/events/stream", options)

    def close(self) -> None:
        self._socket.close()

    def is_held(self) -> bool:
        """Whether the service still has its end open, whatever is on its way between the two."""
        ends = (_port(self._socket.getpeername()), _port(self._socket.getsockname()), _ESTABLISHED)
        lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
        return ends in {(local[9:], remote[9:], state) for _, local, remote, state, *_ in map(str.split, lines)}

    def messages(self) -> list[Message]:
        """Of a WebSocket: the whole frames that come until the service says goodbye or breaks off."""
        # The little that it was given would make this slow.
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024 * 1024)
        found: list[Message] = []
        with self._socket.makefile("rb") as stream, suppress(ConnectionResetError):
            while message := _read_message(stream):
                found.append(message)
                if message[0] == CLOSE:
                    break
        return found


def _port(address: tuple[str, int]) -> str:
    return f"{address[1]:04X}"


def _read_message(stream: BinaryIO) -> Message | None:
    """Opcode and payload of the next frame (RFC 6455 §5.2), if it is whole."""
    head = stream.read(2)
    if len(head) < 2:
        return None
    size = head[1]
    if size >= 126:
        size = int.from_bytes(stream.read(2 if size == 126 else 8))
    payload = stream.read(size)
    return (head[0] & 0x0F, payload) if len(payload) == size else None
