"""Log lines as they leave the process: JSON, with the request's id, without anybody's secrets."""

import logging
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import orjson
import pytest
from bson import ObjectId, Timestamp
from httpx import AsyncClient

from app.platform.log import configure_logging, request_id_var
from tests.conftest import SECRET
from tests.factories.accounts import PASSWORD
from tests.platform.server_process import ServerProcess

logger = logging.getLogger("tests.log")


@pytest.fixture
def logging_restored() -> Iterator[None]:
    """Puts back what `configure_logging` replaces."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


def last_line(captured: str) -> dict[str, Any]:
    decoded: dict[str, Any] = orjson.loads(captured.splitlines()[-1])
    return decoded


@pytest.mark.usefixtures("logging_restored")
class TestConfigureLogging:
    def test_a_line_is_one_object_with_the_requests_id(self, capsys: pytest.CaptureFixture[str]) -> None:
        configure_logging("INFO")
        token = request_id_var.set("the-id")

        logger.info("one\ntwo %s", '"three"', extra={"count": 3})

        request_id_var.reset(token)
        text = capsys.readouterr().out
        line = last_line(text)
        assert text.count("\n") == 1
        assert datetime.fromisoformat(line.pop("time")).tzinfo is not None
        assert line == {
            "level": "INFO",
            "logger": "tests.log",
            "message": 'one\ntwo "three"',
            "request_id": "the-id",
            "count": 3,
        }

    def test_outside_of_requests_there_is_no_id(self, capsys: pytest.CaptureFixture[str]) -> None:
        configure_logging("INFO")

        logger.warning("alone")

        assert last_line(capsys.readouterr().out)["request_id"] is None

    def test_writes_the_values_of_the_database_too(self, capsys: pytest.CaptureFixture[str]) -> None:
        configure_logging("INFO")
        user_id = ObjectId()

        logger.warning("odd", extra={"details": {"id": user_id, "at": Timestamp(1, 1), "raw": b"x"}})

        assert last_line(capsys.readouterr().out)["details"]["id"] == str(user_id)

    def test_says_no_more_than_it_is_asked(self, capsys: pytest.CaptureFixture[str]) -> None:
        logging.getLogger("uvicorn.error").setLevel(logging.INFO)  # as uvicorn leaves it
        configure_logging("WARNING")

        logger.info("too much")
        logging.getLogger("pymongo.topology").info("heartbeat")
        logging.getLogger("uvicorn.error").info("Shutting down")
        logging.getLogger("uvicorn.access").error("GET /ws?ticket=secret")

        assert capsys.readouterr().out == ""

    def test_an_exception_is_part_of_its_line(self, capsys: pytest.CaptureFixture[str]) -> None:
        configure_logging("INFO")

        try:
            int("what went wrong")
        except ValueError:
            logger.exception("failed")

        text = capsys.readouterr().out
        assert text.count("\n") == 1
        assert "ValueError: invalid literal" in last_line(text)["exc_info"]


@pytest.mark.usefixtures("database")
class TestAccessLog:
    async def test_tells_of_requests_and_of_no_secret(self, mongodb_uri: str) -> None:
        async with (
            ServerProcess(
                mongodb_uri, SECRET, LOG_LEVEL="DEBUG", ADMIN_USERNAME="boss", ADMIN_PASSWORD="a boss's long passphrase"
            ) as server,
            AsyncClient(base_url=server.url, headers={"X-Request-ID": "the-id"}) as client,
        ):
            account = {"username": "carol", "password": PASSWORD}
            registered = await client.post("/api/register", json=account)
            signed_in = (await client.post("/api/login", json=account)).json()
            await client.post("/api/login", json=account | {"password": "wrong-" + PASSWORD})
            bearer = {"Authorization": f"Bearer {signed_in['token']}"}
            me = await client.get("/api/me?ticket=one-time-ticket", headers=bearer)
            await client.get("/api/me", headers={"Authorization": "Bearer forged-token"})
            refreshed = await client.post("/api/token/refresh", json={"refreshToken": signed_in["refreshToken"]})
            await client.post("/api/me/password", json={"currentPassword": PASSWORD, "newPassword": "new passphrase"})
        text = server.rest()

        assert [answer.status_code for answer in (registered, me, refreshed)] == [201, 200, 200]
        # The server's own first words come before it has heard of the format.
        started = text.index("{")
        lines = [orjson.loads(line) for line in text[started:].splitlines()]
        requests = [line for line in lines if line["message"] == "request"]
        assert {line["request_id"] for line in requests} == {"the-id"}
        shown = next(line for line in requests if line["route"] == "/api/me")
        assert (shown["method"], shown["path"], shown["status"]) == ("GET", "/api/me", 200)
        assert shown["user_id"] == registered.json()["id"]
        secrets = [SECRET, PASSWORD, "new passphrase", "boss's", "one-time-ticket", "forged-token", "$2b$"]
        for secret in [*secrets, signed_in["token"], signed_in["refreshToken"], refreshed.json()["refreshToken"]]:
            assert secret not in text
