"""A mongod that may be hurt, and services on it; healed after each test."""

from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from pathlib import Path

import httpx
import pytest

from app.accounts.roles import Role
from tests.services import NO_TLS, PATIENCE_S, Mongod, Person, Rows, Service, person, running, wait_until

DATABASE = "patient"
TWINS_DATABASE = "twins"


@pytest.fixture(scope="session")
def patient(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mongod]:
    """This worker's mongod for hurting."""
    with closing(Mongod(tmp_path_factory.mktemp("mongod"))) as mongod:
        mongod.start()
        yield mongod


@pytest.fixture
def mongod(patient: Mongod) -> Iterator[Mongod]:
    """Runs and is well before and after the test, whatever the test does to it."""
    try:
        yield patient
    finally:
        patient.thaw()
        patient.start()


@pytest.fixture(scope="session")
def forgetful(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mongod]:
    """A server that remembers a few megabytes of operations, and forgets at its checkpoints: one a second."""
    with closing(Mongod(tmp_path_factory.mktemp("forgetful"), "--oplogSize", "1", "--syncdelay", "1")) as mongod:
        mongod.start()
        yield mongod


@pytest.fixture
def rows(mongod: Mongod) -> Rows:
    """An empty database, read behind the service's back. Its indexes are left, since they take long to make."""
    database = mongod.client[DATABASE]
    for name in database.list_collection_names():
        database[name].delete_many({})
    return database


@pytest.fixture
def service(mongod: Mongod, rows: Rows, tmp_path: Path) -> Iterator[Service]:
    """The service on the test's database, ready."""
    service = Service(mongod.uri(rows.name), tmp_path / "service.log")
    with running(service):
        yield service


@pytest.fixture
def impatient(mongod: Mongod, rows: Rows, tmp_path: Path) -> Iterator[Service]:
    """The service on the test's database, sooner at the end of its patience; ready."""
    service = Service(mongod.uri(rows.name), tmp_path / "impatient.log")
    service.program = "tests.faults.impatient"
    with running(service):
        yield service


@pytest.fixture
def other(service: Service, mongod: Mongod, rows: Rows, tmp_path: Path) -> Iterator[Service]:
    """Another process of it."""
    other = Service(mongod.uri(rows.name), tmp_path / "other.log")
    with running(other):
        yield other


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
    with running(one, other):
        yield one, other


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
