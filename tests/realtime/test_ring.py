"""What is remembered of the log: how much, from where on, and whose tickets they are by now."""

from itertools import count
from typing import Any

import orjson
import pytest
from bson import ObjectId

from app.events.cursor import LogPosition
from app.events.replay import Logged
from app.platform.websocket import text_frame
from app.realtime.audience import STAFF
from app.realtime.protocol import event_frame
from app.realtime.ring import MAX_BYTES, MAX_EVENTS, Broadcast, Ring
from app.tickets.schemas import event_out
from tests.factories.events import event_row

CAROL, DAVE = ObjectId(), ObjectId()
_serial = count(1)


def place(number: int) -> LogPosition:
    return LogPosition(number.to_bytes(9), None)


def happened(number: int | None = None, *, size: int = 0, internal: bool = False, **ticket: Any) -> Broadcast:
    """An event at this place in the log, or behind the last; its description is so long."""
    number = number or next(_serial)
    row = event_row(internal=internal, version=1, description="x" * size, **ticket)
    return Broadcast(Logged(row, LogPosition(number.to_bytes(9), row["_id"]), f"c{number}"))


def ring_of(*items: Broadcast) -> Ring:
    ring = Ring(place(0), "c0")
    for item in items:
        ring.append(item)
    return ring


class TestBroadcast:
    def test_is_encoded_once_for_both_doors(self) -> None:
        item = happened(1)

        assert item.frame is item.frame
        assert orjson.loads(item.frame) == orjson.loads(event_frame(item.row, "c1"))
        assert item.websocket_frame is item.websocket_frame
        assert item.websocket_frame == text_frame(item.frame)

    @pytest.mark.parametrize(
        ("size", "head"),
        [
            (0, b"\x81\x00"),
            (125, b"\x81\x7d"),
            (126, b"\x81\x7e\x00\x7e"),
            (65_535, b"\x81\x7e\xff\xff"),
            (65_536, b"\x81\x7f\x00\x00\x00\x00\x00\x01\x00\x00"),
        ],
    )
    def test_goes_into_one_text_frame_that_is_not_masked(self, size: int, head: bytes) -> None:
        assert text_frame(b"x" * size) == head + b"x" * size


class TestAfter:
    def test_is_what_lies_behind_a_place(self) -> None:
        items = [happened(number) for number in (2, 4, 6)]
        ring = ring_of(*items)

        assert [ring.after(place(number), 10**6) for number in range(8)] == [
            *(items, items),
            *(items[1:], items[1:]),
            *(items[2:], items[2:]),
            *([], []),
        ]

    @pytest.mark.parametrize(("at_most", "expected"), [(0, 1), (1, 1), (2, 2), (3, 3), (4, 3)])
    def test_is_as_much_as_fits_but_one_at_least(self, at_most: int, expected: int) -> None:
        items = [happened(number, tags=[]) for number in (1, 2, 3)]
        size = len(items[0].frame)
        assert {len(item.frame) for item in items} <= {size, size + 1}
        ring = ring_of(*items)

        assert len(ring.after(place(0), at_most * (size + 1))) == expected

    def test_leaves_a_large_one_to_the_next_piece(self) -> None:
        items = [happened(1), happened(2, size=70_000), happened(3)]
        ring = ring_of(*items)

        assert ring.after(place(0), 64 * 1024) == items[:1]
        assert ring.after(place(1), 64 * 1024) == items[1:2]
        assert ring.after(place(2), 64 * 1024) == items[2:]


class TestTrimming:
    def test_keeps_a_thousand(self) -> None:
        items = [happened(number) for number in range(1, MAX_EVENTS * 5 // 4 + 1)]
        ring = ring_of(*items[:-1])
        assert (ring.floor, len(ring.after(place(0), 10**9))) == (place(0), 1_249)

        ring.append(items[-1])

        assert MAX_EVENTS == 1_000
        assert ring.floor == items[249].position
        assert ring.after(ring.floor, 10**9) == items[250:]

    def test_keeps_four_mebibytes(self) -> None:
        items = [happened(number, size=100_000) for number in range(1, 60)]
        ring = Ring(place(0), "c0")
        most = 0
        for item in items:
            ring.append(item)
            most = max(most, sum(len(kept.frame) for kept in ring.after(ring.floor, 10**9)))

        kept = ring.after(ring.floor, 10**9)
        assert MAX_BYTES == 4 * 1024 * 1024
        assert MAX_BYTES <= most < MAX_BYTES * 5 // 4
        assert kept == items[-len(kept) :]
        assert ring.floor == items[-len(kept) - 1].position

    @pytest.mark.parametrize("maximum", [1, 2, 3, 4, 5, 8])
    def test_goes_on_for_ever(self, monkeypatch: pytest.MonkeyPatch, maximum: int) -> None:
        monkeypatch.setattr("app.realtime.ring.MAX_EVENTS", maximum)
        ring = Ring(place(0), "c0")
        items: list[Broadcast] = []
        for number in range(1, 50):
            items.append(happened(number))
            ring.append(items[-1])

            kept = ring.after(ring.floor, 10**9)
            assert len(kept) <= maximum * 5 // 4
            assert kept == items[len(items) - len(kept) :]
            assert ring.floor == (items[-len(kept) - 1].position if len(kept) < len(items) else place(0))
            assert ring.end == items[-1].position

    def test_keeps_one_that_is_larger_than_all_it_may_keep(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("app.realtime.ring.MAX_BYTES", 5_000)
        items = [happened(1), happened(2), happened(3, size=20_000), happened(4)]
        ring = ring_of(*items[:3])

        assert ring.after(ring.floor, 10**9) == items[2:3]
        ring.append(items[3])
        assert ring.after(ring.floor, 10**9) == items[3:]

    def test_forgets_whose_tickets_are_gone(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("app.realtime.ring.MAX_EVENTS", 4)
        ring = Ring(place(0), "c0")
        for number in range(1, 100):
            ring.append(happened(number, requester=CAROL))

        assert len(ring._requesters) == len(ring.after(ring.floor, 10**9)) <= 5


class TestPlaces:
    def test_are_covered_from_the_floor_to_the_end(self) -> None:
        ring = Ring(place(2), "c2")
        ring.append(happened(4))
        ring.reach(place(6), "c6")

        assert [number for number in range(9) if ring.covers(place(number))] == [2, 3, 4, 5, 6]
        assert (ring.end, ring.end_cursor) == (place(6), "c6")

    def test_that_are_reached_are_no_events(self) -> None:
        ring = Ring(place(0), "c0")
        ring.reach(place(5), "c5")

        assert (ring.floor, ring.after(ring.floor, 10**9)) == (place(0), [])

    def test_know_the_events_that_are_kept(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("app.realtime.ring.MAX_EVENTS", 4)
        items = [happened(number) for number in range(1, 6)]
        ring = ring_of(*items)

        assert [ring.knows(item.row["_id"]) for item in items] == [False, True, True, True, True]
        assert not ring.knows(ObjectId())
        assert not ring.knows(None)


class TestAudience:
    def test_is_the_staff_and_the_requester(self) -> None:
        ring = Ring(place(0), "c0")

        assert ring.append(happened(1, requester=CAROL)) == (STAFF, CAROL)
        assert ring.append(happened(2, requester=None)) == (STAFF,)
        assert ring.append(happened(3, requester=CAROL, internal=True)) == (STAFF,)

    def test_is_by_the_present_requester_of_each_ticket(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("app.realtime.ring.MAX_EVENTS", 4)
        passed_on, kept = ObjectId(), ObjectId()
        items = [
            happened(1, _id=passed_on, requester=CAROL),
            happened(2, _id=kept, requester=CAROL),
            happened(3, _id=passed_on, requester=DAVE),
        ]
        ring = ring_of(*items)
        assert [ring.requester_of(item) for item in items] == [DAVE, CAROL, DAVE]

        for number in (4, 5):
            ring.append(happened(number, _id=passed_on, requester=None))
        assert [ring.requester_of(item) for item in ring.after(ring.floor, 10**9)] == [CAROL, None, None, None]


def test_the_frame_is_what_polling_has() -> None:
    item = happened(1, requester=CAROL)

    frame = orjson.loads(item.frame)
    assert frame == {"type": "event", "cursor": "c1", "event": frame["event"]}
    assert set(frame["event"]) == set(event_out(item.row, "c1"))
