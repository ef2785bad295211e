"""A day of everything with a secret in it: afterwards none can be read from database, logs or answers."""

import hashlib
import re
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import bson
import httpx
import orjson
import pyotp
import pytest
from websockets.sync.client import connect

from tests.mailbox import LINK, read_directory, text_of
from tests.services import NO_TLS, SECRET, Rows, Service, wait_until

FIRST, SECOND, THIRD = "first passphrase 1f8a", "second passphrase 2c6d", "third passphrase 9e0b"
TYPED_AS_NAME = "oops my passphrase 77d1"
WRONG = "a wrong passphrase 5ab2"


class Day:
    """A person's day, and every secret of it."""

    def __init__(self, service: Service, mail: Path) -> None:
        self._url = service.url
        self._mail = mail
        self.client = httpx.Client(base_url=service.url, timeout=60, verify=NO_TLS)
        self.secrets = {FIRST, SECOND, THIRD, TYPED_AS_NAME, WRONG, SECRET}
        self.answers: list[bytes] = []

    def post(self, path: str, body: dict[str, Any] | None = None, *, status: int, **headers: str) -> dict[str, Any]:
        answer = self.client.post(path, json=body, headers=headers)
        assert answer.status_code == status, (path, answer.text)
        return dict(answer.json()) if answer.content else {}

    def sign_in(self, password: str, *, status: int = 200, **more: str) -> dict[str, Any]:
        body = self.post("/api/login", {"username": "dave@example.com", "password": password, **more}, status=status)
        self._keep(body)
        return body

    def go_on_as(self, signed_in: dict[str, Any]) -> None:
        self._keep(signed_in)
        self.client.headers["Authorization"] = f"Bearer {signed_in['token']}"

    def read(self, path: str) -> Any:
        """What people get to see of all this, later."""
        answer = self.client.get(path)
        assert answer.status_code == 200, answer.text
        self.answers.append(answer.content)
        return answer.json()

    def link(self, number: int) -> str:
        """The token of so many a mail with a link."""

        def links() -> list[str]:
            return [found[2] for mail in read_directory(self._mail) for found in LINK.finditer(text_of(mail))]

        wait_until(lambda: len(links()) >= number)
        self.secrets.add(links()[number - 1])
        return links()[number - 1]

    def _keep(self, body: dict[str, Any]) -> None:
        self.secrets |= {body[name] for name in ("token", "refreshToken", "mfaToken") if name in body}

    def live(self) -> None:
        """Tokens on sockets: in a message, and a ticket in the address."""
        address = self._url.replace("http", "ws")
        token = str(self.client.headers["Authorization"]).split()[1]
        with connect(f"{address}/ws") as socket:
            socket.send(orjson.dumps({"type": "auth", "token": token}).decode())
            assert orjson.loads(socket.recv())["type"] == "ready"
        ticket = self.post("/api/realtime/ticket", status=201)["ticket"]
        self.secrets.add(ticket)
        with connect(f"{address}/ws?ticket={ticket}") as socket:
            assert orjson.loads(socket.recv())["type"] == "ready"
        with connect(f"{address}/graphql", subprotocols=["graphql-transport-ws"]) as socket:  # type: ignore[list-item]
            socket.send(
                orjson.dumps({"type": "connection_init", "payload": {"Authorization": f"Bearer {token}"}}).decode()
            )
            assert orjson.loads(socket.recv())["type"] == "connection_ack"


@pytest.fixture
def day(service: Service, tmp_path: Path) -> Iterator[Day]:
    mail = tmp_path / "mail"
    service.environment |= {
        "MAIL_DIR": str(mail),
        "LOG_LEVEL": "DEBUG",
        "ADMIN_USERNAME": "root",
        "ADMIN_PASSWORD": THIRD,
    }
    service.start()
    day = Day(service, mail)
    yield day
    day.client.close()


def live_through(day: Day) -> None:
    register = {"username": "dave@example.com", "password": FIRST, "name": "Dave"}
    for _ in range(2):
        day.post("/api/register", register, status=201, **{"Idempotency-Key": "once"})
    day.sign_in(WRONG, status=401)
    day.post("/api/login", {"username": TYPED_AS_NAME, "password": FIRST}, status=401)
    day.go_on_as(day.sign_in(FIRST))
    day.post("/api/tickets", {"title": "Printer", "description": "Down", "priority": "Low"}, status=201)

    setup = day.post("/api/me/mfa/setup", status=200)
    otp = pyotp.TOTP(setup["secret"])
    codes = day.post("/api/me/mfa/enable", {"otp": otp.now()}, status=200)["recoveryCodes"]
    renewed = day.post("/api/me/mfa/recovery-codes", status=200)["recoveryCodes"]
    day.secrets |= {setup["secret"], setup["otpauthUri"], *codes, *renewed}
    for body in ({"otp": "000000"}, {"recoveryCode": codes[0]}):
        held = day.sign_in(FIRST, status=401)["mfaToken"]
        day.post("/api/login/mfa", {"mfaToken": held, **body}, status=401)
    held = day.sign_in(FIRST, status=401)["mfaToken"]
    day.go_on_as(day.post("/api/login/mfa", {"mfaToken": held, "recoveryCode": renewed[0]}, status=200))
    proof = {"password": FIRST, "recoveryCode": renewed[1]}
    day.post("/api/me/reauthenticate", proof, status=200)

    for _ in range(2):
        key = day.post("/api/api-keys", {"name": "robot", "scopes": ["read"]}, status=201, **{"Idempotency-Key": "k"})
        day.secrets |= {key["key"]} if key["key"] else set()
    day.client.get("/api/me", headers={"Authorization": f"Bearer {key['key']}"})
    day.live()
    change = {"currentPassword": FIRST, "newPassword": SECOND}
    day.post("/api/me/password", change, status=204, **{"Idempotency-Key": "p"})
    day.client.get("/api/me", params={"token": str(day.client.headers["Authorization"]).split()[1]})

    for number in (1, 2):
        day.post("/api/password/forgot", {"username": "dave@example.com"}, status=202)
        link = day.link(number)
    reset = {"token": link, "password": THIRD}
    day.post("/api/password/reset", {**reset, "token": day.link(1)}, status=400)
    day.post("/api/password/reset", reset, status=204, **{"Idempotency-Key": "r"})
    day.client.headers.pop("Authorization")
    held = day.sign_in(THIRD, status=401)["mfaToken"]
    day.go_on_as(day.post("/api/login/mfa", {"mfaToken": held, "recoveryCode": renewed[2]}, status=200))


def test_nothing_that_lets_people_in_can_be_read_afterwards(
    service: Service, rows: Rows, day: Day, tmp_path: Path
) -> None:
    live_through(day)
    for path in ("/api/me", "/api/me/sessions", "/api/api-keys", "/api/tickets", "/api/events"):
        day.read(path)
    [ticket] = day.read("/api/tickets")["items"]
    day.read(f"/api/tickets/{ticket['id']}/events")
    graphql = day.client.post("/graphql", json={"query": "{ me { id username name mfaEnabled } }"})
    day.answers.append(graphql.content)
    day.client.headers.pop("Authorization")
    day.go_on_as(day.post("/api/login", {"username": "root", "password": THIRD}, status=200))
    for path in ("/api/audit?limit=100", "/api/users", "/api/events"):
        day.read(path)
    service.kill()

    dump = b"".join(bson.encode(row) for name in rows.list_collection_names() for row in rows[name].find())
    log = service.output().encode()
    assert {"users", "sessions", "api_keys", "audit", "password_resets", "idempotency"} <= set(
        rows.list_collection_names()
    )
    assert len(day.secrets) > 40
    # The search finds what is there.
    assert b"dave@example.com" in dump
    assert b"/api/login/mfa" in log
    for place, content in (("database", dump), ("log", log), ("answers", b"".join(day.answers))):
        for secret in day.secrets:
            for form in forms_of(secret):
                assert form not in content, (place, secret)


def forms_of(secret: str) -> set[bytes]:
    """The secret as it is, and as it would be worth just as much."""
    plain = secret.encode()
    forms = {plain, b64encode(plain).rstrip(b"="), plain.hex().encode()}
    if re.fullmatch(r"([0-9A-Z]{4}-){3}[0-9A-Z]{4}", secret):
        forms.add(secret.replace("-", "").encode())
    if secret.count(".") == 2:
        forms.add(secret.rsplit(".", 1)[1].encode())  # a signature fits what is not secret
    # Of a passphrase even a quick digest is as good as the passphrase.
    if " " in secret:
        forms |= {hashlib.new(name, plain).hexdigest().encode() for name in ("md5", "sha1", "sha256")}
    return forms
