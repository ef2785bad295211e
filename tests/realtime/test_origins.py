"""Which web pages may open a socket: those of this host, and those that the settings name."""

import pytest

from app.realtime.origins import is_allowed_origin
from tests.callers import Caller
from tests.conftest import ALLOWED_ORIGIN
from tests.live import Live

WRONG_ORIGIN = (4403, "This origin is not allowed")
HOST = "help.example.com"


class TestIsAllowedOrigin:
    @pytest.mark.parametrize(
        ("host", "origin"),
        [
            (HOST, "https://help.example.com"),
            (HOST, "http://help.example.com"),
            (HOST, "https://help.example.com:443"),
            (HOST, "http://help.example.com:80"),
            (HOST, "https://HELP.example.com"),
            (f"{HOST}:443", "https://help.example.com"),
            (f"{HOST}:80", "https://help.example.com"),
            (f"{HOST}:8000", "http://help.example.com:8000"),
            (f"{HOST}:8000", "https://help.example.com:8000"),
            ("127.0.0.1:8000", "http://127.0.0.1:8000"),
            ("[::1]:8000", "http://[::1]:8000"),
            (HOST, ALLOWED_ORIGIN),
            ("", ALLOWED_ORIGIN),
            (HOST, None),
            ("", None),
        ],
    )
    def test_is_this_host_or_named_or_none(self, host: str, origin: str | None) -> None:
        headers = {"host": host} | ({} if origin is None else {"origin": origin})

        assert is_allowed_origin(headers, {ALLOWED_ORIGIN})

    @pytest.mark.parametrize(
        ("host", "origin"),
        [
            (HOST, "https://evil.example"),
            (HOST, "https://help.example.com.evil.example"),
            (HOST, "https://evil.help.example.com"),
            (HOST, "https://example.com"),
            (HOST, "https://help.example.com:8443"),
            (f"{HOST}:8000", "https://help.example.com"),
            (f"{HOST}:8000", "http://help.example.com:8001"),
            (HOST, f"{ALLOWED_ORIGIN}:444"),
            (HOST, f"{ALLOWED_ORIGIN}/"),
            (HOST, f"{ALLOWED_ORIGIN} https://evil.example"),
            (HOST, ALLOWED_ORIGIN.upper()),
            (HOST, "null"),
            ("null", "null"),
            (HOST, ""),
            ("", ""),
            ("", "https://"),
            ("", "//"),
            (HOST, "garbage"),
            (HOST, "help.example.com"),
            (HOST, "https://help.example.com:port"),
            (HOST, "https://help.example.com:99999"),
            (HOST, "https://[help.example.com"),
            ("[", "["),
            (f"{HOST}:x", "https://help.example.com"),
            (HOST, "file://"),
            (HOST, "*"),
        ],
    )
    def test_is_nothing_else(self, host: str, origin: str) -> None:
        assert not is_allowed_origin({"host": host, "origin": origin}, {ALLOWED_ORIGIN})


class TestOverTheSocket:
    @pytest.mark.parametrize("origin", ["https://{address}", "http://{address}", ALLOWED_ORIGIN])
    async def test_pages_of_ours_are_let_in(self, live: Live, agent: Caller, origin: str) -> None:
        socket = await live.connect(agent.token, headers={"Origin": origin.format(address=live.address)})

        assert (await socket.frame())["type"] == "ready"

    @pytest.mark.parametrize("origin", ["null", "https://evil.example", "garbage", "", "http://127.0.0.1"])
    async def test_others_are_refused_with_a_good_token_too(self, live: Live, agent: Caller, origin: str) -> None:
        for token in (agent.token, "x", None):
            socket = await live.connect(token, headers={"Origin": origin})

            assert await socket.closing() == WRONG_ORIGIN
