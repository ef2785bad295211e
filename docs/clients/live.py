"""Keeps a copy of the tickets that a user may see, equal to the service's, by its live events; see README.md."""

import asyncio
import json
import random
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import httpx
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, WebSocketException

Json = dict[str, Any]
SignIn = Callable[[], Awaitable[Json]]
SHORTEST_PAUSE_S, LONGEST_PAUSE_S, TOO_MUCH_PAUSE_S = 0.5, 30.0, 5.0
RENEW_AT = 0.9  # of a token's life
NOT_UNDERSTOOD, UNAUTHENTICATED, FORBIDDEN, TOO_MUCH = 4400, 4401, 4403, 4429
MAY_PASS = (OSError, WebSocketException, httpx.HTTPError)


class Refused(Exception):
    """To try the same again is of no use."""


async def sign_in(url: str, username: str, password: str) -> Json:
    """Return what `POST /api/login` answers. Raises `Refused` for wrong credentials."""
    async with httpx.AsyncClient(base_url=url) as http:
        answer = await http.post("/api/login", json={"username": username, "password": password})
    if answer.is_client_error and answer.status_code != httpx.codes.TOO_MANY_REQUESTS:
        raise Refused(answer.json()["detail"])
    return dict(answer.raise_for_status().json())


class LiveTickets:
    """`tickets` has them by id; `sign_in` answers what `POST /api/login` does, always for the same user."""

    def __init__(self, url: str, sign_in: SignIn, changed: Callable[[], None] = lambda: None) -> None:
        self.tickets: dict[str, Json] = {}
        self._cursor: str | None = None  # where they stand in the event log; None until they have been loaded
        self._url, self._sign_in, self._changed = url, sign_in, changed
        self._http: httpx.AsyncClient
        self._session: Json = {}
        self._headers: dict[str, str] = {}
        self._renew_at, self._failures = 0.0, 0

    async def run(self) -> None:
        """Follow until cancelled. Raises `Refused`: the service wants no more of this, or `sign_in` raised it."""
        async with httpx.AsyncClient(base_url=self._url, timeout=30) as self._http:
            while True:
                code = None
                with suppress(*MAY_PASS):
                    if not self._session:
                        await self._renew()
                    code, reason = await self._follow()
                    if code in {NOT_UNDERSTOOD, FORBIDDEN}:
                        raise Refused(reason)
                    if code == UNAUTHENTICATED:
                        await self._renew()
                most = min(LONGEST_PAUSE_S, SHORTEST_PAUSE_S * 2 ** min(self._failures, 10))
                await asyncio.sleep(random.uniform(0, most) + (TOO_MUCH_PAUSE_S if code == TOO_MUCH else 0))
                self._failures += 1

    async def _follow(self) -> tuple[int | None, str | None]:
        """One connection; return the code that it was closed with, and the reason."""
        query = f"?since={self._cursor}" if self._cursor else ""
        url = f"ws{self._url.removeprefix('http')}/ws{query}"
        async with connect(url, additional_headers=self._headers) as socket:
            renewing = asyncio.create_task(self._renew_in_time(socket))
            try:
                with suppress(ConnectionClosed):
                    async for text in socket:
                        await self._handle(json.loads(text))
            finally:
                renewing.cancel()
        return socket.close_code, socket.close_reason

    async def _handle(self, frame: Json) -> None:
        if frame["type"] == "event":
            ticket = frame["event"]["ticket"]
            if ticket["version"] > self.tickets.get(ticket["id"], {"version": 0})["version"]:
                self.tickets[ticket["id"]] = ticket
                if frame["event"]["type"] == "ticket.deleted":
                    del self.tickets[ticket["id"]]
            self._cursor = frame["cursor"]
        elif frame["type"] == "resync" or self._cursor is None:
            self._cursor = None
            self.tickets = await self._loaded()
            self._cursor = frame["cursor"]
        self._failures = 0
        self._changed()

    async def _loaded(self) -> dict[str, Json]:
        tickets: dict[str, Json] = {}
        parameters = {"limit": "100"}
        while True:
            answer = await self._http.get("/api/tickets", params=parameters, headers=self._headers)
            page = answer.raise_for_status().json()
            tickets |= {ticket["id"]: ticket for ticket in page["items"]}
            if page["nextCursor"] is None:
                return tickets
            parameters["cursor"] = page["nextCursor"]

    async def _renew_in_time(self, socket: ClientConnection) -> None:
        with suppress(*MAY_PASS, Refused):  # the old token runs out then, and `run` sees to another
            while True:
                await asyncio.sleep(self._renew_at - time.monotonic())
                await self._renew()
                await socket.send(json.dumps({"type": "auth", "token": self._session["token"]}))

    async def _renew(self) -> None:
        session = None
        if self._session:
            answer = await self._http.post("/api/token/refresh", json={"refreshToken": self._session["refreshToken"]})
            if answer.status_code != httpx.codes.UNAUTHORIZED:
                session = answer.raise_for_status().json()
        self._session = session or await self._sign_in()
        self._headers = {"Authorization": f"Bearer {self._session['token']}"}
        self._renew_at = time.monotonic() + RENEW_AT * self._session["expiresIn"]
