"""The clients that the documentation shows: what they hold is what a reload shows, whatever happens in between."""

import random
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import httpx
import orjson
import pytest
from bson import ObjectId
from playwright.sync_api import Browser
from pymongo import MongoClient
from websockets.sync.client import connect

from app.accounts.roles import Role
from app.accounts.tokens import ACCESS_TTL, Tokens
from app.realtime.hub import MAX_STREAMS_PER_USER, SWEEP_S
from tests.browser import launched
from tests.factories.accounts import PASSWORD
from tests.realtime.followers import CLIENTS, BrowserFollower, Follower, Json, PythonFollower, site
from tests.services import NO_TLS, SECRET, Person, Rows, Service, person, running, session, wait_until

# More than a page of them.
TICKETS = 120
ABNORMAL, RESTARTING, UNAUTHENTICATED, FORBIDDEN, TOO_MUCH = 1006, 1012, 4401, 4403, 4429


@dataclass(frozen=True)
class Client:
    """One of the examples at work, and whose."""

    follower: Follower
    who: Person


# A client of each kind, of somebody new in this role, to begin with in these sessions, before it signs in itself.
Given = Callable[[Person], Iterable[Json]]
Follow = Callable[[Role, Given], list[Client]]


class Changes:
    """Somebody who works on the tickets, by a service that nobody hurts."""

    def __init__(self, service: Service, admin: Person) -> None:
        self._http = httpx.Client(base_url=service.url, headers=admin.headers, timeout=30, verify=NO_TLS)
        self._ids: list[str] = []
        self.close = self._http.close

    def mark(self, **more: Any) -> str:
        """Opens a ticket that is left alone then, and answers its id."""
        ticket_id: str = self._do("POST", "", {"title": "No paper", "description": "Tray 2", **more})["id"]
        return ticket_id

    def one(self) -> None:
        """Some change to some ticket."""
        if len(self._ids) < TICKETS or random.random() < 0.1:
            self._ids.append(self.mark())
            return
        ticket = random.choice(self._ids)
        if random.random() < 0.7:
            self._do("PATCH", f"/{ticket}", {"tags": [str(random.random())]})
            return
        self._do("DELETE", f"/{ticket}")
        if random.random() < 0.7:
            self._do("POST", f"/{ticket}/restore")
        else:
            self._ids.remove(ticket)

    def seen_by(self, who: Person) -> Json:
        """What a fresh look shows: all tickets by id."""
        seen: Json = {}
        parameters = {"limit": "100"}
        while True:
            answer = self._http.get("/api/tickets", params=parameters, headers=who.headers)
            page = answer.raise_for_status().json()
            seen |= {ticket["id"]: ticket for ticket in page["items"]}
            if page["nextCursor"] is None:
                return seen
            parameters["cursor"] = page["nextCursor"]

    def _do(self, method: str, path: str, body: Json | None = None) -> Json:
        answer = self._http.request(method, f"/api/tickets{path}", json=body).raise_for_status()
        return dict(answer.json()) if answer.content else {}


@pytest.fixture(scope="module")
def rows(mongodb_uri: str) -> Iterator[Rows]:
    with MongoClient[dict[str, Any]](mongodb_uri.replace("/test_", "/clients_"), tz_aware=True) as client:
        yield client.get_default_database()


@pytest.fixture(scope="module")
def page() -> Iterator[str]:
    """The address of the site that the browser's client comes from."""
    with site() as port:
        yield f"http://127.0.0.1:{port}"


@pytest.fixture(scope="module")
def services(
    mongodb_uri: str, page: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Service, Service]]:
    """One for the clients, which may be killed, and another for those who make changes meanwhile."""
    logs = tmp_path_factory.mktemp("clients")
    uri = mongodb_uri.replace("/test_", "/clients_")
    one, other = (Service(uri, logs / name) for name in ("one.log", "other.log"))
    one.environment["ALLOWED_ORIGINS"] = page
    with running(one, other):
        yield one, other


@pytest.fixture(scope="module")
def changes(services: tuple[Service, Service], rows: Rows) -> Iterator[Changes]:
    with closing(Changes(services[1], person(rows, Role.ADMIN))) as changes:
        for _ in range(TICKETS):
            changes.one()
        yield changes


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with launched() as browser:
        yield browser


@pytest.fixture
def follow(services: tuple[Service, Service], page: str, browser: Browser, rows: Rows) -> Iterator[Follow]:
    """Starts the clients, which all go through the same."""
    with ExitStack() as stack:

        def start(role: Role, given: Given) -> list[Client]:
            return [begin(kind, role, given) for kind in (PythonFollower, partial(BrowserFollower, browser, page))]

        def begin(kind: Callable[..., PythonFollower | BrowserFollower], role: Role, given: Given) -> Client:
            who = person(rows, role)
            sessions = iter(given(who))
            follower = kind(services[0].url, (who.username, PASSWORD), lambda: next(sessions, None))
            stack.enter_context(closing(follower))
            return Client(follower, who)

        yield start


def nothing(_who: Person) -> Iterable[Json]:
    return ()


@contextmanager
def going_on(changes: Changes) -> Iterator[None]:
    """Changes are made all the while."""
    is_over = threading.Event()

    def work() -> None:
        while not is_over.wait(0.01):
            changes.one()

    with ThreadPoolExecutor() as pool:
        working = pool.submit(work)
        try:
            yield
        finally:
            is_over.set()
            working.result()


def lived(rows: Rows, who: Person, left_s: float, *, told_s: int, refresh_token: str | None = None) -> Json:
    """A session whose token has so long to live, and what its owner is told of that."""
    session_id, moment = ObjectId(), datetime.now(UTC)
    session(rows, who.id, session_id, moment)
    return {
        "token": Tokens(SECRET).access(who.id, session_id, moment - ACCESS_TTL + timedelta(seconds=left_s)),
        "expiresIn": told_s,
        "refreshToken": refresh_token or Tokens(SECRET).refresh(session_id, 0),
    }


def sessions_of(rows: Rows, who: Person) -> list[int]:
    """How often each was renewed."""
    return [row["generation"] for row in rows.sessions.find({"userId": who.id}).sort("_id", 1)]


def settle(clients: Sequence[Client], changes: Changes) -> None:
    """Returns when each holds what a fresh look shows, a last change included."""
    for client in clients:
        mark = changes.mark(requester=str(client.who.id))
        seen = changes.seen_by(client.who)
        assert mark in seen
        wait_until(lambda it=client.follower, expected=seen: it.held() == expected)  # type: ignore[misc]


def lives(clients: Sequence[Client]) -> list[tuple[list[int], int]]:
    """What the connections of each were closed with, and how often it loaded the tickets."""
    return [(client.follower.codes(), client.follower.loads()) for client in clients]


def have_heard(clients: Sequence[Client], ticket_id: str) -> bool:
    return all(ticket_id in client.follower.held() for client in clients)


def test_changes_and_broken_connections(
    follow: Follow, services: tuple[Service, Service], changes: Changes, rows: Rows
) -> None:
    service = services[0]
    with going_on(changes):
        clients = follow(Role.AGENT, nothing)
        wait_until(lambda: min(len(client.follower.held()) for client in clients) >= TICKETS)

        service.kill()
        mark = changes.mark()
        service.start()
        wait_until(lambda: have_heard(clients, mark))

        service.ask_to_end()
        service.wait()
        mark = changes.mark()
        service.start()
        wait_until(lambda: have_heard(clients, mark))
    settle(clients, changes)

    assert [(set(codes), loads) for codes, loads in lives(clients)] == [({ABNORMAL, RESTARTING}, 1)] * len(clients)


def test_signing_out_elsewhere(follow: Follow, services: tuple[Service, Service], changes: Changes, rows: Rows) -> None:
    tokens: list[str] = []

    def given(who: Person) -> Iterable[Json]:
        first = lived(rows, who, 3_600, told_s=3_600)
        tokens.append(first["token"])
        return [first]

    clients = follow(Role.CUSTOMER, given)
    settle(clients, changes)

    for token in tokens:
        headers = {"Authorization": f"Bearer {token}"}
        httpx.post(f"{services[1].url}/api/logout", headers=headers, timeout=30, verify=NO_TLS).raise_for_status()
    settle(clients, changes)

    assert lives(clients) == [([UNAUTHENTICATED], 1)] * len(clients)
    assert [sessions_of(rows, client.who) for client in clients] == [[0, 0]] * len(clients)


def test_a_token_is_replaced_before_it_expires(follow: Follow, changes: Changes, rows: Rows) -> None:
    clients = follow(Role.AGENT, lambda who: [lived(rows, who, 4, told_s=1)])
    expired = time.monotonic() + 4
    wait_until(lambda: lives(clients) == [([], 1)] * len(clients) and time.monotonic() > expired + 2 * SWEEP_S)
    settle(clients, changes)

    assert lives(clients) == [([], 1)] * len(clients)
    assert [sessions_of(rows, client.who) for client in clients] == [[0, 1]] * len(clients)


def test_a_token_that_expired_unnoticed(follow: Follow, changes: Changes, rows: Rows) -> None:
    clients = follow(Role.AGENT, lambda who: [lived(rows, who, 5, told_s=3_600)])
    wait_until(lambda: [codes for codes, _ in lives(clients)] == [[UNAUTHENTICATED]] * len(clients))
    settle(clients, changes)

    assert lives(clients) == [([UNAUTHENTICATED], 1)] * len(clients)
    assert [sessions_of(rows, client.who) for client in clients] == [[0, 1]] * len(clients)


def test_a_log_that_is_lost(follow: Follow, changes: Changes, rows: Rows) -> None:
    clients = follow(Role.AGENT, nothing)
    settle(clients, changes)

    rows.tickets.update_many({}, {"$set": {"title": "Changed without a word"}, "$inc": {"version": 1}})
    rows.events.drop()
    rows.create_collection("events")
    wait_until(lambda: [loads for _, loads in lives(clients)] == [2] * len(clients))
    settle(clients, changes)

    assert lives(clients) == [([], 2)] * len(clients)


def test_too_many_streams(follow: Follow, services: tuple[Service, Service], changes: Changes) -> None:
    address = f"ws://127.0.0.1:{services[0].port}/ws"
    with ExitStack() as stack:

        def take_all_places(who: Person) -> Iterable[Json]:
            for _ in range(MAX_STREAMS_PER_USER):
                stream = stack.enter_context(connect(address, additional_headers=who.headers, proxy=None))
                assert orjson.loads(stream.recv())["type"] == "ready"
            return ()

        began = time.monotonic()
        clients = follow(Role.AGENT, take_all_places)
        wait_until(lambda: [codes for codes, _ in lives(clients)] == [[TOO_MUCH]] * len(clients))
    wait_until(lambda: any(client.follower.held() for client in clients))
    assert time.monotonic() - began > 4.5
    settle(clients, changes)

    assert lives(clients) == [([TOO_MUCH], 1)] * len(clients)


def test_what_is_forbidden_is_not_tried_again(follow: Follow, rows: Rows) -> None:
    def given(who: Person) -> Iterable[Json]:
        somebody = person(rows, Role.AGENT)
        first = lived(rows, who, 3_600, told_s=1, refresh_token="rt_of_nobody")
        return [first, lived(rows, somebody, 3_600, told_s=3_600)]

    clients = follow(Role.AGENT, given)
    refusal = "A stream can't pass to another user"
    wait_until(lambda: [client.follower.refusal() for client in clients] == [refusal] * len(clients))

    assert lives(clients) == [([FORBIDDEN], 1)] * len(clients)


def test_a_page_from_elsewhere_is_refused(
    browser: Browser, page: str, services: tuple[Service, Service], rows: Rows
) -> None:
    agent = person(rows, Role.AGENT)
    given = lived(rows, agent, 3_600, told_s=3_600)
    elsewhere = page.replace("127.0.0.1", "localhost")
    with closing(BrowserFollower(browser, elsewhere, services[0].url, ("", ""), lambda: given)) as follower:
        wait_until(lambda: follower.refusal() is not None)

        assert follower.refusal() == "This origin is not allowed"
        assert (follower.codes(), follower.held()) == ([FORBIDDEN], {})


@pytest.mark.parametrize("name", ["live.js", "live.py"])
def test_examples_are_short(name: str) -> None:
    assert len((CLIENTS / name).read_text().splitlines()) <= 120
