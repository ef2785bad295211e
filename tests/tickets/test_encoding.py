"""Stored bytes to JSON: the same as by way of plain values, remembered by the bytes and by nothing else."""

from datetime import UTC, datetime
from typing import Any

import bson
import orjson
import pytest
from bson import ObjectId

from app.platform.memory import Memory
from app.platform.wire import Row, to_json
from app.tickets import encoding
from app.tickets.encoding import ticket_json
from app.tickets.schemas import TicketOut, ticket_out
from tests.factories.tickets import ticket_row

OLD: Row = {"_id": ObjectId(), "title": "Old", "description": "Of the original service", "__v": 0}
ROWS: list[Row] = [
    ticket_row(),
    ticket_row(tags=["a", "b"], watchers=[ObjectId(), ObjectId()], assignedTo=ObjectId(), requester=ObjectId()),
    ticket_row(title='Quotes " and \\ and \u2028', description="Umlaut ä, emoji 🎫, a zero\u0001"),
    ticket_row(resolvedAt=datetime(2026, 1, 2, 3, 4, 5, 678_000, UTC), status="Resolved", reopenCount=3),
    OLD,
    {**OLD, "status": None, "tags": None, "createdAt": datetime(1999, 12, 31, tzinfo=UTC)},
]


def stored(row: Row) -> bytes:
    return bson.encode(row)


def decoded(row: Row) -> Row:
    return bson.decode(stored(row), bson.CodecOptions(tz_aware=True))


class TestTicketJson:
    @pytest.mark.parametrize("row", ROWS)
    def test_is_what_plain_values_give(self, row: Row) -> None:
        expected = to_json(ticket_out(decoded(row)))

        assert ticket_json(stored(row)) == expected
        assert ticket_json(stored(row)) == expected

    @pytest.mark.parametrize("row", ROWS)
    def test_fits_the_documented_model(self, row: Row) -> None:
        answer = orjson.loads(ticket_json(stored(row)))

        TicketOut.model_validate(answer)
        assert answer.keys() == TicketOut.model_json_schema(by_alias=True)["properties"].keys()

    @pytest.mark.parametrize("field", ["title", "status", "assignedTo", "resolvedAt", "tags"])
    def test_sees_a_change_that_nobody_counted(self, field: str) -> None:
        """Whoever changes a ticket at a shell, or by the original service, leaves its version as it is."""
        row = ticket_row(status="Open", tags=["a"])
        ticket_json(stored(row))
        values: dict[str, Any] = {
            "title": "Other",
            "status": "Closed",
            "assignedTo": ObjectId(),
            "resolvedAt": datetime(2026, 1, 1, tzinfo=UTC),
            "tags": ["b"],
        }
        changed = row | {field: values[field]}

        assert ticket_json(stored(changed)) == to_json(ticket_out(decoded(changed)))

    def test_makes_each_once_and_keeps_it_within_a_bound(self, monkeypatch: pytest.MonkeyPatch) -> None:
        memory: Memory[bytes, bytes] = Memory(4_000)
        monkeypatch.setattr(encoding, "_known", memory)
        row = stored(ticket_row())

        assert ticket_json(row) is ticket_json(row)
        for _ in range(100):
            ticket_json(stored(ticket_row()))
        assert len(memory._young) + len(memory._old) < 5
