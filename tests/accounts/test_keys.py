"""API keys as text: recognisable, hard to mistype, never two alike."""

import re

import pytest

from app.accounts.keys import is_key, key_digest, new_key


def test_is_recognisable_and_random() -> None:
    keys = {new_key() for _ in range(200)}

    assert len(keys) == 200
    assert all(re.fullmatch(r"tkt_[0-9A-Za-z]{38}", key) for key in keys)
    assert all(is_key(key) for key in keys)
    assert len({key_digest(key) for key in keys}) == 200


def test_any_changed_character_shows() -> None:
    key = new_key()

    for at in range(len(key)):
        for other in "0Zz":
            if key[at] != other:
                assert not is_key(key[:at] + other + key[at + 1 :])


@pytest.mark.parametrize("change", [str.upper, str.lower, lambda key: key[1:], lambda key: key + "0", lambda _: "tkt_"])
def test_what_is_no_key(change: object) -> None:
    assert callable(change)
    assert not is_key(change(new_key()))


def test_two_characters_that_changed_places_show() -> None:
    key = new_key()

    for at in range(4, len(key) - 1):
        if key[at] != key[at + 1]:
            assert not is_key(key[:at] + key[at + 1] + key[at] + key[at + 2 :])
