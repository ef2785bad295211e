"""One exchange over ASGI, byte for byte: for requests that no decent client would send."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson
from starlette.types import ASGIApp, Message

Header = tuple[str, str]


@dataclass
class Answer:
    """What came back; `status` is 0 when there was no answer."""

    status: int = 0
    headers: list[Header] = field(default_factory=list)
    body: bytes = b""

    def header(self, name: str) -> str | None:
        found = [value for key, value in self.headers if key == name.lower()]
        assert len(found) <= 1, f"{name} came {len(found)} times"
        return found[0] if found else None

    def json(self) -> Any:
        return orjson.loads(self.body)


async def send(
    app: ASGIApp,
    method: str,
    path: str,
    *,
    headers: Iterable[Header] = (),
    chunks: Sequence[bytes | None] = (b"",),
    query: bytes = b"",
) -> Answer:
    """Sends the body in these chunks; None stands for a client that goes away."""
    waiting = list(chunks)
    answer = Answer()

    async def receive() -> Message:
        chunk = waiting.pop(0) if waiting else None
        if chunk is None:
            return {"type": "http.disconnect"}
        return {"type": "http.request", "body": chunk, "more_body": bool(waiting)}

    async def answered(message: Message) -> None:
        if message["type"] == "http.response.start":
            answer.status = message["status"]
            answer.headers = [(k.decode("latin-1"), v.decode("latin-1")) for k, v in message["headers"]]
        else:
            answer.body += message.get("body", b"")

    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode("utf-8", "replace"),
        "root_path": "",
        "query_string": query,
        "headers": [(k.lower().encode("latin-1"), v.encode("latin-1")) for k, v in (("host", "service"), *headers)],
        "server": ("service", 80),
        "client": ("192.0.2.1", 1234),
    }
    await app(scope, receive, answered)
    return answer
