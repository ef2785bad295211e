"""`scripts/rotate-keys` as whoever runs the place runs it."""

import os
import subprocess
from pathlib import Path

from cryptography.fernet import Fernet

from app.platform.secretbox import SecretBox
from tests.services import Rows

ROTATE_KEYS = Path(__file__).parents[2] / "scripts" / "rotate-keys"
SECRET = "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP"
OLD, NEW, FOREIGN = (Fernet.generate_key() for _ in range(3))


def rotate(uri: str, *keys: bytes) -> "subprocess.CompletedProcess[str]":
    environment = {**os.environ, "MONGODB_URI": uri, "ENCRYPTION_KEYS": ",".join(key.decode() for key in keys)}
    return subprocess.run([ROTATE_KEYS], env=environment, cwd="/", capture_output=True, check=False, text=True)


def test_the_old_key_can_go_afterwards(uri: str, rows: Rows) -> None:
    stored = {"in the clear": SECRET, "old": SecretBox([OLD]).seal(SECRET), "new": SecretBox([NEW]).seal(SECRET)}
    for name, secret in stored.items():
        rows.users.insert_one({"username": name, "mfaEnabled": True, "mfaSecret": secret})
    rows.users.insert_one({"username": "without", "mfaSecret": None})
    rows.deliveries.insert_one({"sealed": SecretBox([OLD]).seal("a mail")})

    ended = rotate(uri, NEW, OLD)

    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "3 secrets were encrypted anew\n", "")
    (mail,) = rows.deliveries.find()
    assert SecretBox([NEW]).open(mail["sealed"]) == "a mail"
    kept = {row["username"]: row["mfaSecret"] for row in rows.users.find()}
    assert [SecretBox([NEW]).open(kept[name]) for name in stored] == [SECRET] * 3
    assert SECRET not in str(kept)
    assert (kept["new"], kept["without"]) == (stored["new"], None)


def test_says_what_it_can_not_read_and_leaves_it(uri: str, rows: Rows) -> None:
    lost = SecretBox([FOREIGN]).seal(SECRET)
    rows.users.insert_one({"username": "lost", "mfaSecret": lost})

    ended = rotate(uri, NEW)

    assert (ended.returncode, ended.stdout) == (1, "0 secrets were encrypted anew\n")
    assert ended.stderr == "1 secrets can't be read with any of the keys and were left as they are\n"
    assert [row["mfaSecret"] for row in rows.users.find()] == [lost]


def test_refuses_a_key_that_is_none(uri: str, rows: Rows) -> None:
    rows.users.insert_one({"username": "old", "mfaSecret": SECRET})

    ended = rotate(uri, b"short")

    assert ended.returncode == 1
    assert ended.stderr.startswith("ENCRYPTION_KEYS: ")
    assert "short" not in ended.stderr
    assert [row["mfaSecret"] for row in rows.users.find()] == [SECRET]
