"""A mongod that may be hurt, and services on it; healed after each test."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import pytest

from app.accounts.roles import Role
from tests.services import NO_TLS, PATIENCE_S, Mongod, Person, Rows, Service, person, wait_until

TWINS_DATABASE = "twins"


@pytest.fixture(scope="session")
def patient(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mongod]:
    """This worker's mongod for hurting."""
    mongod = Mongod(tmp_path_factory.mktemp("mongod"))
    try:
        mongod.start()
        yield mongod
    finally:
        mongod.close()


@pytest.fixture
def mongod(patient: Mongod) -> Iterator[Mongod]:
    """Runs and is well before and after the test, whatever the test does to it."""
    try:
        yield patient
    finally:
        patient.thaw()
        patient.start()


@pytest.fixture
def rows(mongod: Mongod, request: pytest.FixtureRequest) -> Rows:
    """The test's own database, read behind the service's back."""
    name = "".join(letter for letter in request.node.name if letter.isalnum())[:60]
    mongod.client.drop_database(name)
    return mongod.client[name]


@pytest.fixture
def service(mongod: Mongod, rows: Rows, tmp_path: Path) -> Iterator[Service]:
    """The service on the test's own database, ready."""
    started = Service(mongod.uri(rows.name), tmp_path / "service.log")
    try:
        started.start()
        yield started
    finally:
        started.kill()


@pytest.fixture
def admin(rows: Rows) -> Person:
    return person(rows, Role.ADMIN)


@pytest.fixture
async def client(service: Service, admin: Person) -> AsyncIterator[httpx.AsyncClient]:
    """The admin's connections to the service."""
    async with connected(service, admin.headers) as connections:
        yield connections


@pytest.fixture(scope="session")
def started_twins(patient: Mongod, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Service, Service]]:
    logs = tmp_path_factory.mktemp("twins")
    one, other = (Service(patient.uri(TWINS_DATABASE), logs / name) for name in ("one.log", "other.log"))
    try:
        one.launch()
        other.launch()
        yield one, other
    finally:
        one.kill()
        other.kill()


@pytest.fixture
def twins(mongod: Mongod, started_twins: tuple[Service, Service]) -> tuple[Service, Service]:
    """Two processes of the service on one database."""
    for twin in started_twins:
        wait_until(twin.is_ready)
    return started_twins


@pytest.fixture
def twin_rows(mongod: Mongod) -> Rows:
    return mongod.client[TWINS_DATABASE]


def connected(service: Service, headers: dict[str, str]) -> httpx.AsyncClient:
    limits = httpx.Limits(max_connections=None)
    return httpx.AsyncClient(base_url=service.url, headers=headers, timeout=PATIENCE_S, limits=limits, verify=NO_TLS)
