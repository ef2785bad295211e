"""Secrets at rest: unreadable without the key, readable through a change of keys."""

import pytest
from cryptography.fernet import Fernet

from app.platform.secretbox import SecretBox

OLD, NEW, FOREIGN = (Fernet.generate_key() for _ in range(3))
PLAIN = "JBSWY3DPEHPK3PXP"


def test_seals_and_opens() -> None:
    box = SecretBox([OLD])

    sealed = box.seal(PLAIN)

    assert PLAIN not in sealed
    assert sealed != box.seal(PLAIN)
    assert box.open(sealed) == PLAIN
    assert box.is_current(sealed)


def test_another_key_opens_nothing() -> None:
    sealed = SecretBox([OLD]).seal(PLAIN)

    assert SecretBox([FOREIGN]).open(sealed) is None
    assert not SecretBox([FOREIGN]).is_current(sealed)


def test_what_an_older_key_wrote_is_read_and_known_as_old() -> None:
    sealed = SecretBox([OLD]).seal(PLAIN)
    box = SecretBox([NEW, OLD])

    assert box.open(sealed) == PLAIN
    assert not box.is_current(sealed)
    assert box.is_current(box.seal(PLAIN))
    assert SecretBox([NEW]).open(box.seal(PLAIN)) == PLAIN


def test_what_was_never_sealed_is_taken_as_it_is() -> None:
    assert SecretBox([OLD]).open(PLAIN) == PLAIN
    assert not SecretBox([OLD]).is_current(PLAIN)


def test_a_damaged_one_is_none() -> None:
    box = SecretBox([OLD])
    sealed = box.seal(PLAIN)
    other = "A" if sealed[50] != "A" else "B"

    for damaged in (sealed[:-1], sealed[:50] + other + sealed[51:], "enc:", "enc:é"):
        assert box.open(damaged) is None
        assert not box.is_current(damaged)


@pytest.mark.parametrize("key", [b"", b"short", b"x" * 43, b"!" * 44])
def test_refuses_what_is_no_key(key: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        SecretBox([key])
