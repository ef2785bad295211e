"""Cursors: what was written is read, and nothing else is taken for one."""

from uuid import UUID

import pytest
from bson import ObjectId, Timestamp
from hypothesis import given
from hypothesis import strategies as st

from app.events.cursor import Cursors, LogPosition

CURSORS = Cursors(b"a key of the tests")
LOG = UUID(int=7)
TOKEN = bytes.fromhex("826B032802000000042B022C0100296E04")
POSITION = LogPosition(TOKEN, ObjectId())


@given(token=st.binary(min_size=9, max_size=80), known=st.one_of(st.none(), st.builds(ObjectId)))
def test_what_was_written_is_read(token: bytes, known: ObjectId | None) -> None:
    position = LogPosition(token, known)

    assert CURSORS.decode(LOG, CURSORS.encode(LOG, position)) == position


def test_a_position_knows_when_it_was_committed() -> None:
    assert POSITION.at == Timestamp(0x6B032802, 4)


def test_every_altered_letter_is_noticed() -> None:
    cursor = CURSORS.encode(LOG, POSITION)
    for place, letter in enumerate(cursor):
        other = "A" if letter != "A" else "B"
        altered = cursor[:place] + other + cursor[place + 1 :]
        assert CURSORS.decode(LOG, altered) in (None, POSITION)
        assert CURSORS.decode(LOG, altered) is None or place == len(cursor) - 1, "only the spare bits of the last"


@pytest.mark.parametrize("cursor", ["", "A", "é", "====", "A" * 10_000, "no cursor at all", "\x00"])
def test_garbage_is_no_cursor(cursor: str) -> None:
    assert CURSORS.decode(LOG, cursor) is None


def test_a_cursor_is_good_for_one_log_and_one_key() -> None:
    cursor = CURSORS.encode(LOG, POSITION)

    assert CURSORS.decode(UUID(int=8), cursor) is None
    assert Cursors(b"another key").decode(LOG, cursor) is None
