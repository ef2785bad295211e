"""`scripts/serve` as a newcomer runs it: a process of its own, with its own data and database."""

import json
import os
import re
import signal
import socket
import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from pymongo import MongoClient

from tests.mailbox import LINK, read_directory, text_of
from tests.services import wait_until

SERVE = Path(__file__).parents[2] / "scripts" / "serve"
# Empty counts as not set, and hides what a developer's .env says.
ENVIRONMENT = {**os.environ, **dict.fromkeys(("MONGODB_URI", "JWT_SECRET", "MAIL_DIR", "PUBLIC_URL"), "")}
# A mongod that has to roll its journal forward after a crash is the slowest thing here.
PATIENCE_S = 30


class Service:
    """A running `scripts/serve`, once it has said where it is."""

    def __init__(self, process: "subprocess.Popen[str]", output: Path) -> None:
        self._process = process
        self._output = output
        self.logged: list[str] = []
        self.banner = self._read_banner()
        self.address = self.banner["Service"]

    def _read_banner(self) -> dict[str, str]:
        assert self._process.stdout is not None
        banner: dict[str, str] = {}
        for line in self._process.stdout:
            if found := re.match(r"([A-Z][a-z]+) +(\S+)", line):
                banner[found[1]] = found[2]
            elif line.startswith("{"):
                self.logged.append(json.loads(line)["message"])
            if line.startswith("Ctrl-C"):
                return banner
        raise AssertionError(self.errors())

    def status_of(self, path: str) -> int:
        with urllib.request.urlopen(self.address + path, timeout=5) as answer:  # noqa: S310 - the address is our own
            return int(answer.status)

    def post(self, path: str, body: dict[str, str]) -> int:
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(self.address + path, json.dumps(body).encode(), headers)  # noqa: S310 - ours
        with urllib.request.urlopen(request, timeout=5) as answer:  # noqa: S310 - the same
            return int(answer.status)

    def end_by(self, number: signal.Signals) -> int:
        # As the terminal does it: every process of the group is told.
        os.killpg(self._process.pid, number)
        self._process.communicate(timeout=PATIENCE_S)
        return self._process.returncode

    def errors(self) -> str:
        return self._output.read_text()


@contextmanager
def serving(data: Path) -> Iterator[Service]:
    command = [str(SERVE), "--port", "0", "--no-demo", "--data", str(data)]
    output = data.with_suffix(".err")
    with (
        output.open("w") as errors,
        subprocess.Popen(
            command, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=errors, text=True, start_new_session=True
        ) as process,
    ):
        try:
            yield Service(process, output)
        finally:
            process.kill()


def run(*arguments: str | Path, **environment: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [SERVE, *arguments],
        env=ENVIRONMENT | environment,
        capture_output=True,
        check=False,
        text=True,
        timeout=PATIENCE_S,
    )


@contextmanager
def notes(data: Path) -> Iterator[Any]:
    port = int((data / "mongod.port").read_text())
    with MongoClient[dict[str, Any]]("127.0.0.1", port, directConnection=True) as client:
        yield client.test.notes


def mongod_is_gone(data: Path) -> bool:
    # mongod empties its lock file as the last act of a clean end.
    return not (data / "db" / "mongod.lock").read_text()


class TestServe:
    def test_starts_ends_cleanly_and_keeps_data_secret_and_mail(self, tmp_path: Path) -> None:
        data = tmp_path / "data"
        with serving(data) as service:
            assert service.status_of("/healthz") == 200
            assert service.status_of("/readyz") == 200
            with notes(data) as collection:
                collection.insert_one({"text": "kept"})
            assert service.banner["Mail"] == str(data / "mail")
            assert "mail is put into files instead of sent, which is for development" in service.logged
            person = {"username": "carol@example.com", "password": "a long passphrase"}
            address = service.address
            assert service.post("/api/register", person) == 201
            assert service.post("/api/password/forgot", {"username": person["username"]}) == 202

            assert service.end_by(signal.SIGTERM) == 0
            assert mongod_is_gone(data)
            assert "Traceback" not in service.errors()
        secret = (data / "jwt-secret").read_text()
        assert len(secret) >= 32
        assert (data / "jwt-secret").stat().st_mode & 0o777 == 0o600

        with serving(data) as service:
            assert service.status_of("/readyz") == 200
            with notes(data) as collection:
                assert [note["text"] for note in collection.find()] == ["kept"]
            # What could not go out at the last moment does now.
            wait_until(lambda: bool(read_directory(data / "mail")))

            assert service.end_by(signal.SIGINT) == 0
            assert mongod_is_gone(data)
            assert "Traceback" not in service.errors()
        assert (data / "jwt-secret").read_text() == secret
        (mail,) = read_directory(data / "mail")
        assert mail["To"] == person["username"]
        link = LINK.search(text_of(mail))
        assert link
        assert link[1] == address

    def test_refuses_a_taken_port_before_it_touches_anything(self, tmp_path: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as other:
            port = other.getsockname()[1]

            ended = run("--port", str(port), "--data", tmp_path / "data")

        assert ended.returncode == 1
        assert ended.stderr == f"scripts/serve: cannot listen on 127.0.0.1 port {port}: Address already in use\n"
        assert not (tmp_path / "data").exists()

    @pytest.mark.parametrize("name", ["jwt-secret", "db"])
    def test_says_in_one_line_what_it_cannot_use(self, tmp_path: Path, name: str) -> None:
        odd = tmp_path / name
        if name == "db":
            odd.touch()
        else:
            odd.mkdir()

        ended = run("--port", "0", "--data", tmp_path)

        assert ended.returncode == 1
        assert ended.stderr.startswith("scripts/serve: cannot ")
        assert ended.stderr.count("\n") == 1

    @pytest.mark.parametrize("program", ["/nowhere/mongod", "/bin/false"])
    def test_says_in_one_line_that_there_is_no_database(self, tmp_path: Path, program: str) -> None:
        ended = run("--port", "0", "--data", tmp_path / "data", MONGOD=program)

        assert ended.returncode == 1
        assert ended.stderr.startswith("scripts/serve: ")
        assert ended.stderr.count("\n") == 1
