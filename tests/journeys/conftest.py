"""The service as its users meet it: a process of its own on a database of its own."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Protocol

import httpx
import pytest
from pymongo import MongoClient

from tests.services import NO_TLS, Rows, Service


@pytest.fixture
def rows(mongodb_uri: str, request: pytest.FixtureRequest) -> Iterator[Rows]:
    """The test's own, empty database, seen behind the service's back."""
    client: MongoClient[dict[str, object]] = MongoClient(mongodb_uri, tz_aware=True)
    name = f"{client.get_default_database().name}_journey"
    client.drop_database(name)
    yield client[name]
    client.drop_database(name)
    client.close()


@pytest.fixture
def service(mongodb_uri: str, rows: Rows, tmp_path: Path) -> Iterator[Service]:
    """The service on the test's own database; the test fills it and then starts the service."""
    base, _, options = mongodb_uri.partition("?")
    started = Service(f"{base.rsplit('/', 1)[0]}/{rows.name}?{options}", tmp_path / "service.log")
    try:
        yield started
    finally:
        started.end()


class SignIn(Protocol):
    """Signs in as people do and answers a client that sends the token."""

    def __call__(self, username: str, password: str, **more: str) -> httpx.Client: ...


@pytest.fixture
def sign_in(service: Service) -> Iterator[SignIn]:
    with ExitStack() as clients:

        def signed_in(username: str, password: str, **more: str) -> httpx.Client:
            body = {"username": username, "password": password, **more}
            answer = httpx.post(f"{service.url}/api/login", json=body, timeout=30, verify=NO_TLS)
            assert answer.status_code == 200, answer.text
            headers = {"Authorization": f"Bearer {answer.json()['token']}"}
            return clients.enter_context(httpx.Client(base_url=service.url, headers=headers, timeout=30, verify=NO_TLS))

        yield signed_in
