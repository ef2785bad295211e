"""`scripts/create-admin` as a person or another program runs it."""

import os
import pty
import subprocess
from pathlib import Path

import pytest

from app.accounts.passwords import matches
from tests.services import Rows

CREATE_ADMIN = Path(__file__).parents[2] / "scripts" / "create-admin"
PASSWORD = "  a long passphrase"


def create(username: str, uri: str, given: str = f"{PASSWORD}\n") -> "subprocess.CompletedProcess[str]":
    environment = {**os.environ, "MONGODB_URI": uri}
    environment.pop("JWT_SECRET", None)
    return subprocess.run(
        [CREATE_ADMIN, username], input=given, env=environment, cwd="/", capture_output=True, check=False, text=True
    )


def answer(username: str, uri: str, *answers: str) -> int:
    """The exit code after the answers were typed in at a terminal, each to a question."""
    ours, theirs = pty.openpty()
    with (
        os.fdopen(ours, "r+b", buffering=0) as keyboard,
        subprocess.Popen(
            [CREATE_ADMIN, username],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env={**os.environ, "MONGODB_URI": uri},
            start_new_session=True,
        ) as program,
    ):
        os.close(theirs)
        for text in answers:
            asked = b""
            while not asked.endswith(b": "):
                asked += keyboard.read(1)
            keyboard.write(f"{text}\n".encode())
        return program.wait()


class TestCreateAdmin:
    def test_opens_accounts_beside_others_and_leaves_those_alone(self, uri: str, rows: Rows) -> None:
        rows.users.insert_one({"username": "bert", "password": "kept", "role": "Customer"})
        ended = create("ada", uri)
        assert (ended.returncode, ended.stderr) == (0, "")
        assert ended.stdout == "The Admin ada can sign in now\n"
        ada, bert = rows.users.find().sort("username", 1).to_list()
        assert (ada["username"], ada["role"], ada["active"]) == ("ada", "Admin", True)
        assert matches(PASSWORD, ada["password"])

        ended = create("BERT ", uri)

        assert (ended.returncode, ended.stderr) == (1, "scripts/create-admin: This username is taken\n")
        assert rows.users.find().sort("username", 1).to_list() == [ada, bert]

    def test_asks_twice_at_a_terminal(self, uri: str, rows: Rows) -> None:
        assert answer("ada", uri, PASSWORD, "another passphrase") == 1
        assert rows.users.count_documents({}) == 0

        assert answer("ada", uri, PASSWORD, PASSWORD) == 0
        assert [row["username"] for row in rows.users.find()] == ["ada"]

    @pytest.mark.parametrize("password", ["", "password123\n"])
    def test_refuses_a_weak_password(self, uri: str, rows: Rows, password: str) -> None:
        ended = create("ada", uri, password)

        assert ended.returncode == 1
        assert ended.stderr.startswith("scripts/create-admin: password: ")
        assert ended.stderr.count("\n") == 1
        assert rows.users.count_documents({}) == 0

    def test_says_in_one_line_which_setting_is_wrong(self) -> None:
        ended = create("ada", "http://127.0.0.1:1/nowhere")

        assert ended.returncode == 1
        assert ended.stderr.startswith("MONGODB_URI: ")
        assert ended.stderr.count("\n") == 1

    def test_says_in_one_line_that_there_is_no_database(self) -> None:
        ended = create("ada", "mongodb://127.0.0.1:1/nowhere")

        assert ended.returncode == 1
        assert ended.stderr.startswith("scripts/create-admin: the database can't be used: ")
        assert ended.stderr.count("\n") == 1
