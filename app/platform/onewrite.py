"""The head of an answer and its body in one write, where uvicorn hands them to the socket one after the other.

Each write is a system call here, a packet, and for many clients a wake-up. ASGI has no word for it, so this stands in
for the transport of uvicorn's own object for a request, which is the receiver of the bound method that ASGI passes as
`receive` (see decision 0011 on that).
"""

import asyncio

from starlette.types import Receive
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle


def cycle_of(receive: Receive) -> RequestResponseCycle | None:
    """Uvicorn's object for this request; None under anything but its default HTTP implementation."""
    cycle = getattr(receive, "__self__", None)
    return cycle if isinstance(cycle, RequestResponseCycle) else None


class HeldHead(asyncio.Transport):
    """The transport of one answer, from its head to the first piece of its body."""

    def __init__(self, cycle: RequestResponseCycle) -> None:
        super().__init__()
        self._cycle = cycle
        self._transport = cycle.transport
        self._held: list[bytes | bytearray | memoryview] = []
        cycle.transport = self

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self._held.append(data)

    def close(self) -> None:
        self.release()
        self._transport.close()

    def is_closing(self) -> bool:
        return self._transport.is_closing()

    def release(self) -> None:
        """Writes what was held back; what comes next goes straight to the socket."""
        self._cycle.transport = self._transport
        held, self._held = self._held, []
        if held:
            self._transport.writelines(held)
