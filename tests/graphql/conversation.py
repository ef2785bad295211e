"""A client of graphql-transport-ws that says what it is told to say, right or wrong."""

from typing import Any, Self

from app.realtime.hub import Hub
from tests.callers import Caller
from tests.live import Frame, Live, Query, Socket, eventually

PATH = "/graphql"
PROTOCOL = "graphql-transport-ws"
ID = "1"


class Conversation:
    """An open socket at /graphql."""

    def __init__(self, socket: Socket) -> None:
        self.socket = socket
        self.send = socket.send
        self.frame = socket.frame
        self.closing = socket.closing

    @classmethod
    async def open(cls, live: Live, token: str | None = None, query: Query = (), **more: Any) -> Self:
        """A handshake; `token` is sent with it, as a header."""
        given: dict[str, Any] = {"path": PATH, "subprotocols": [PROTOCOL], **more}
        return cls(await live.connect(token, query, **given))

    @classmethod
    async def begin(cls, live: Live, caller: Caller, **more: Any) -> Self:
        """A socket whose greeting was acknowledged."""
        conversation = await cls.open(live, **more)
        await conversation.greet(f"Bearer {caller.token}")
        assert await conversation.frame() == {"type": "connection_ack"}
        return conversation

    async def greet(self, authorization: str) -> None:
        await self.send({"type": "connection_init", "payload": {"Authorization": authorization}})

    async def subscribe(self, text: str, operation: str = ID, **variables: Any) -> None:
        payload = {"query": text, "variables": variables}
        await self.send({"type": "subscribe", "id": operation, "payload": payload})

    async def complete(self, operation: str = ID) -> None:
        await self.send({"type": "complete", "id": operation})

    async def next(self, operation: str = ID) -> Frame:
        """The payload of a `next` for this operation, which has to be what comes next."""
        frame = await self.frame()
        assert (frame["type"], frame["id"]) == ("next", operation), frame
        payload: Frame = frame["payload"]
        return payload

    async def event(self, operation: str = ID) -> Frame:
        payload = await self.next(operation)
        assert "errors" not in payload, payload
        event: Frame = payload["data"]["ticketEvents"]
        return event

    async def events(self, count: int, operation: str = ID) -> list[Frame]:
        return [await self.event(operation) for _ in range(count)]

    async def refusal(self, operation: str = ID) -> Frame:
        """The `extensions` of the one error that ends this operation, which has to be what comes next."""
        frame = await self.frame()
        assert (frame["type"], frame["id"]) == ("error", operation), frame
        [error] = frame["payload"]
        extensions: Frame = error["extensions"]
        return extensions

    async def answer(self, text: str, operation: str = ID, **variables: Any) -> Frame:
        """The payload of the one `next` of a query or mutation."""
        await self.subscribe(text, operation, **variables)
        payload = await self.next(operation)
        assert await self.frame() == {"id": operation, "type": "complete"}
        return payload

    async def silence(self) -> None:
        """Returns when all that was said before is answered; it has to be with nothing."""
        await self.send({"type": "ping"})
        assert await self.frame() == {"type": "pong"}


async def nobody_is_left(hub: Hub) -> None:
    """Returns when the hub has forgotten all listeners and their feeds."""
    await eventually(lambda: not hub._listeners and not hub._feeds)
