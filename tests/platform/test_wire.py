"""The wire's conventions, on a small model of its own."""

from contextlib import suppress
from datetime import UTC, datetime, timedelta, timezone
from typing import Annotated, Any

import pytest
from bson import Decimal128, ObjectId
from bson.tz_util import utc
from hypothesis import given
from hypothesis import strategies as st
from pydantic import StringConstraints

from app.platform.errors import InvalidInput
from app.platform.wire import (
    MAX_MEMBERS,
    STORABLE,
    Id,
    Instant,
    PatchModel,
    Secret,
    WireModel,
    instant,
    instants,
    to_json,
)

INDIA = timezone(timedelta(hours=5, minutes=30))
ZONES = st.none() | st.timezones() | st.just(INDIA) | st.just(timezone(timedelta(seconds=20)))
HEX = "6740a1f0c3b2a1d4e5f60718"
Title = Annotated[str, StringConstraints(min_length=1, max_length=10), STORABLE]


class Note(WireModel):
    short_title: Title
    pass_word: Secret = ""
    owner: Id | None = None
    due: Instant | None = None


class NotePatch(PatchModel):
    short_title: Title = "-"
    owner: Id | None = None


class Folder(WireModel):
    notes: list[Note]


def wrong(data: object, model: type[WireModel] = Note) -> dict[str, str]:
    with pytest.raises(InvalidInput) as refusal:
        model.parse(data)
    return {error["field"]: error["code"] for error in refusal.value.extra["errors"]}


class TestParse:
    def test_trims_text_but_no_secret(self) -> None:
        note = Note.parse({"shortTitle": " \t a b \n", "passWord": " p "})

        assert (note.short_title, note.pass_word) == ("a b", " p ")

    @pytest.mark.parametrize("title", ["  ", "", "\u3000", "\n"])
    def test_counts_what_is_left_after_trimming(self, title: str) -> None:
        assert wrong({"shortTitle": title}) == {"shortTitle": "string_too_short"}
        assert Note.parse({"shortTitle": "  " + "x" * 10 + "  "}).short_title == "x" * 10

    def test_names_every_wrong_field_at_once(self) -> None:
        data = {"passWord": 1, "owner": "x", "due": "soon", "role": "Admin", "short_title": "a"}

        assert wrong(data) == {
            "shortTitle": "required",
            "passWord": "string_type",
            "owner": "value_error",
            "due": "datetime_from_date_parsing",
            "role": "unknown_field",
            "short_title": "unknown_field",
        }

    def test_never_repeats_what_was_sent(self) -> None:
        with pytest.raises(InvalidInput) as refusal:
            Note.parse({"shortTitle": "hunter2 " * 5, "passWord": ["hunter2"], "owner": "hunter2"})

        assert "hunter2" not in repr(refusal.value.extra)
        assert "hunter2" not in refusal.value.text

    @pytest.mark.parametrize("text", ["a\x00", "\ud800", "a\udfff"])
    def test_refuses_what_can_not_be_stored(self, text: str) -> None:
        assert set(wrong({"shortTitle": text})) == {"shortTitle"}
        assert set(wrong({"shortTitle": "a", "passWord": text})) == {"passWord"}

    @pytest.mark.parametrize("data", [None, 1, "a", [], [{}], True])
    def test_refuses_what_is_no_object(self, data: object) -> None:
        assert list(wrong(data)) == [""]

    @pytest.mark.parametrize("value", [1, 1.5, True, None, ["a"], {"a": 1}])
    def test_makes_no_text_of_other_things(self, value: object) -> None:
        assert wrong({"shortTitle": value}) == {"shortTitle": "string_type"}

    def test_looks_at_no_more_members_than_any_body_has(self) -> None:
        data = {"shortTitle": "a"} | {str(number): 1 for number in range(MAX_MEMBERS)}

        assert wrong(data) == {"": "too_many_fields"}

    def test_looks_at_no_more_in_an_object_within(self) -> None:
        members = {str(number): 1 for number in range(MAX_MEMBERS + 1)}

        assert wrong({"notes": [members]}, Folder) == {"notes.0": "too_many_fields"}

    @given(st.dictionaries(st.text(), st.none() | st.booleans() | st.integers() | st.floats() | st.text()))
    def test_anything_is_either_a_note_or_refused(self, data: dict[str, Any]) -> None:
        with suppress(InvalidInput):
            assert Note.parse(data).short_title


class TestPatchModel:
    @pytest.mark.parametrize("data", [{}, {"owner": None}, {"shortTitle": "a"}, {"shortTitle": "-"}])
    def test_gives_what_was_sent_by_its_stored_name(self, data: dict[str, Any]) -> None:
        assert NotePatch.parse(data).given() == data


class TestId:
    @pytest.mark.parametrize("text", [HEX, HEX.upper()])
    def test_reads_24_hex_digits(self, text: str) -> None:
        assert Note.parse({"shortTitle": "a", "owner": text}).owner == ObjectId(HEX)

    @pytest.mark.parametrize("value", ["", HEX[:-1], HEX + "0", " " + HEX, "x" * 24, "a" * 12, 1, [HEX], {"$oid": HEX}])
    def test_refuses_everything_else(self, value: object) -> None:
        assert wrong({"shortTitle": "a", "owner": value}) == {"owner": "value_error"}


class TestInstant:
    @pytest.mark.parametrize(
        ("moment", "text"),
        [
            (datetime(2026, 11, 22, 9, 30, tzinfo=UTC), "2026-11-22T09:30:00.000Z"),
            (datetime(2026, 11, 22, 9, 30, 1, 999_999, tzinfo=UTC), "2026-11-22T09:30:01.999Z"),
            (datetime(2026, 11, 22, 9, 30, tzinfo=INDIA), "2026-11-22T04:00:00.000Z"),
            (datetime(1, 1, 1, tzinfo=UTC), "0001-01-01T00:00:00.000Z"),
            (datetime(1969, 12, 31, 23, 59, 59, 1000, tzinfo=UTC), "1969-12-31T23:59:59.001Z"),
        ],
    )
    def test_is_utc_with_milliseconds(self, moment: datetime, text: str) -> None:
        assert instant(moment) == text

    @given(st.lists(st.datetimes(timezones=st.sampled_from([UTC, utc])) | st.datetimes(timezones=ZONES), max_size=4))
    def test_of_many_is_that_of_each(self, moments: list[datetime]) -> None:
        whole = [moment.replace(microsecond=0) for moment in moments]
        in_utc = [moment.replace(tzinfo=utc) for moment in moments]

        for some in (moments, whole, in_utc, [*in_utc, *whole]):
            with suppress(OverflowError):  # the first and the last day there is, in another zone
                assert instants(some) == [instant(moment) for moment in some]


class TestToJson:
    def test_writes_stored_values(self) -> None:
        row = {"id": ObjectId(HEX), "at": datetime(2026, 11, 22, tzinfo=UTC), "none": None, "text": "ä\u2028</script>"}

        assert to_json(row) == (
            f'{{"id":"{HEX}","at":"2026-11-22T00:00:00.000Z","none":null,"text":"ä\u2028</script>"}}'.encode()
        )

    @pytest.mark.parametrize("value", [b"bytes", Decimal128("1"), {1, 2}, object()])
    def test_refuses_what_has_no_place_there(self, value: object) -> None:
        with pytest.raises(TypeError):
            to_json({"value": value})
