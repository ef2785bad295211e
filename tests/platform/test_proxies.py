"""Whose word counts about who is calling: the connection's, and that of proxies we were told to trust."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from types import SimpleNamespace
from typing import Any

import httpx
import orjson
import pytest
from httpx import AsyncClient
from pydantic import SecretStr, ValidationError
from starlette.types import Message, Receive, Scope, Send
from websockets.asyncio.client import connect

from app.accounts.documents import Session
from app.platform.mongo import collection_of
from app.platform.proxies import TrustedProxies
from app.settings import Settings
from tests.callers import Callers
from tests.factories.accounts import PASSWORD
from tests.live import LiveServer
from tests.services import NO_TLS

LOCAL = "127.0.0.1"
GOOD = SecretStr("a random secret that is long enough for anybody")
# What clients and proxies may send: the headers, and whom they make the caller of a trusted proxy.
CLAIMS: list[tuple[dict[str, str], str, str]] = [
    ({}, LOCAL, "http"),
    ({"X-Forwarded-For": "203.0.113.9"}, "203.0.113.9", "http"),
    ({"X-Forwarded-For": "203.0.113.9:4711"}, "203.0.113.9", "http"),
    ({"X-Forwarded-For": "2001:db8::1"}, "2001:db8::1", "http"),
    ({"X-Forwarded-For": "198.51.100.7, 203.0.113.9"}, "203.0.113.9", "http"),
    ({"X-Forwarded-For": f"198.51.100.7, 203.0.113.9, {LOCAL}"}, "203.0.113.9", "http"),
    ({"X-Forwarded-Proto": "https"}, LOCAL, "https"),
    ({"X-Forwarded-For": "203.0.113.9", "X-Forwarded-Proto": "https"}, "203.0.113.9", "https"),
    ({"X-Forwarded-Proto": "gopher"}, LOCAL, "http"),
    ({"Forwarded": "for=203.0.113.9;proto=https", "X-Real-IP": "203.0.113.9"}, LOCAL, "http"),
]


async def tell(scope: Scope, receive: Receive, send: Send) -> None:
    """Tells who the caller is taken for."""
    body = orjson.dumps([scope["client"] and scope["client"][0], scope["scheme"]])
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.send", "text": body.decode()})
        await send({"type": "websocket.close", "code": 1000})
        return
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body})


async def asked(trusted: Sequence[str], headers: dict[str, str]) -> list[Any]:
    """The same of a request and of a WebSocket, on a real server."""
    async with LiveServer(TrustedProxies(tell, trusted)) as server, httpx.AsyncClient(verify=NO_TLS) as client:
        address = f"{LOCAL}:{server.port}"
        by_http = (await client.get(f"http://{address}/", headers=headers)).json()
        async with connect(f"ws://{address}/", additional_headers=headers, proxy=None) as socket:
            by_socket = orjson.loads(await socket.recv())
    assert by_socket == [by_http[0], by_http[1].replace("http", "ws")]
    return list(by_http)


class TestTrustedProxies:
    @pytest.mark.parametrize(("headers", "client", "scheme"), CLAIMS)
    @pytest.mark.parametrize("trusted", [[LOCAL], ["192.0.2.0/24", "127.0.0.0/8"]])
    async def test_are_believed(self, trusted: list[str], headers: dict[str, str], client: str, scheme: str) -> None:
        assert await asked(trusted, headers) == [client, scheme]

    @pytest.mark.parametrize("headers", [claim[0] for claim in CLAIMS])
    @pytest.mark.parametrize("trusted", [[], ["192.0.2.1", "10.0.0.0/8"]])
    async def test_nobody_else_is_not_even_on_this_machine(self, trusted: list[str], headers: dict[str, str]) -> None:
        assert await asked(trusted, headers) == [LOCAL, "http"]

    @pytest.mark.parametrize(
        ("peer", "tls", "expected"),
        [
            (("192.0.2.7", 1), None, ["192.0.2.7", "http"]),
            (("192.0.2.7", 1), object(), ["192.0.2.7", "https"]),
            (("::ffff:192.0.2.7", 1, 0, 0), None, ["192.0.2.7", "http"]),
            (("2001:db8::7", 1, 0, 0), None, ["2001:db8::7", "http"]),
            ("", None, [None, "http"]),
        ],
    )
    async def test_the_connection_has_the_first_word(self, peer: Any, tls: object, expected: list[str | None]) -> None:
        """Whatever the server made of it before."""
        answer: list[Message] = []
        facts = {"socket": SimpleNamespace(getpeername=lambda: peer), "sslcontext": tls}

        class Cycle:
            transport = SimpleNamespace(get_extra_info=facts.get)

            async def receive(self) -> Message:
                raise AssertionError

        async def send(message: Message) -> None:
            answer.append(message)

        scope = {"type": "http", "client": ("203.0.113.9", 1), "scheme": "https", "headers": []}
        await TrustedProxies(tell, [])(scope, Cycle().receive, send)

        assert orjson.loads(answer[-1]["body"]) == expected

    async def test_a_start_is_no_request(self) -> None:
        seen: list[Scope] = []

        async def inner(scope: Scope, _receive: Receive, _send: Send) -> None:
            seen.append(scope)

        async def never(*_arguments: object) -> Any:
            raise AssertionError

        await TrustedProxies(inner, [LOCAL])({"type": "lifespan"}, never, never)

        assert seen == [{"type": "lifespan"}]


class TestService:
    @pytest.fixture
    async def client(self, live_server: LiveServer) -> AsyncIterator[AsyncClient]:
        async with AsyncClient(base_url=f"http://{LOCAL}:{live_server.port}") as client:
            yield client

    async def test_a_session_notes_the_true_address(self, callers: Callers, client: AsyncClient) -> None:
        credentials = {"username": callers.customer.actor.username, "password": PASSWORD}
        before = {row["_id"] for row in await collection_of(Session).find().to_list()}

        answer = await client.post("/api/login", json=credentials, headers={"X-Forwarded-For": "203.0.113.9"})

        assert answer.status_code == 200
        (new,) = await collection_of(Session).find({"_id": {"$nin": list(before)}}).to_list()
        assert new["address"] == LOCAL

    async def test_a_claim_of_encryption_is_none(self, callers: Callers, client: AsyncClient) -> None:
        answer = await client.get("/healthz", headers={"X-Forwarded-Proto": "https"})

        assert (answer.status_code, "Strict-Transport-Security" in answer.headers) == (200, False)


class TestSetting:
    @pytest.mark.parametrize(
        ("text", "proxies"),
        [
            ("", ()),
            (" , ", ()),
            ("127.0.0.1", ("127.0.0.1",)),
            (" 10.0.0.0/8 , 2001:db8::/32,::1 ", ("10.0.0.0/8", "2001:db8::/32", "::1")),
        ],
    )
    def test_is_a_list_with_commas(self, monkeypatch: pytest.MonkeyPatch, text: str, proxies: tuple[str, ...]) -> None:
        monkeypatch.setenv("TRUSTED_PROXIES", text)

        assert Settings(jwt_secret=GOOD).trusted_proxies == proxies

    @pytest.mark.parametrize("text", ["*", "proxy", "10.0.0.1/8", "10.0.0", "10.0.0.0/33", "127.0.0.1:80", "[::1]"])
    async def test_refuses_what_is_no_address(self, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
        monkeypatch.setenv("TRUSTED_PROXIES", f"127.0.0.1,{text}")

        with pytest.raises(ValidationError, match=r"must be addresses and networks such as 10\.0\.0\.0/8"):
            await asyncio.to_thread(Settings, jwt_secret=GOOD)
