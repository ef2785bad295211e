"""What a process remembers of the log: all behind a place, or it says that it does not know."""

from uuid import UUID

import pytest

from app.events import heard as module
from app.events.cursor import LogPosition
from app.events.heard import Heard

LOG, OTHER = UUID(int=1), UUID(int=2)


def at(number: int) -> LogPosition:
    return LogPosition(number.to_bytes(9), None)


def heard_since(start: int, *numbers: int) -> Heard:
    heard = Heard()
    heard.start(LOG, at(start))
    for number in numbers:
        heard.add(at(number), {"number": number})
    return heard


def told(heard: Heard, place: int, log: UUID = LOG, at_most: int = 10) -> list[int]:
    found = heard.after(log, at(place), at_most=at_most)
    assert [position for position, _ in found] == [at(row["number"]) for _, row in found]
    return [row["number"] for _, row in found]


def test_tells_what_is_behind_a_place() -> None:
    heard = heard_since(3, 5, 7, 9)

    assert [told(heard, place) for place in (3, 4, 5, 8, 9)] == [[5, 7, 9], [5, 7, 9], [7, 9], [9], []]
    assert told(heard, 3, at_most=2) == [5, 7]


def test_knows_nothing_of_before_it_began_or_of_another_log() -> None:
    assert told(Heard(), 5) == []
    assert told(heard_since(3, 5), 2) == []
    assert told(heard_since(3, 5), 3, OTHER) == []


def test_forgets_the_oldest_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_EVENTS", 2)
    heard = heard_since(0, 1, 2, 3)

    assert (told(heard, 0), told(heard, 1)) == ([], [2, 3])


def test_starts_anew_without_a_gap() -> None:
    """Also when it was told more, by another, than whoever starts anew had seen."""
    heard = heard_since(0, 1, 2, 5)
    heard.start(LOG, at(3))
    heard.add(at(6), {"number": 6})
    heard.add(at(4), {"number": 4})

    assert (told(heard, 3), told(heard, 5)) == ([], [6])
    heard.start(OTHER, at(2))
    heard.add(at(3), {"number": 3})
    assert (told(heard, 5), told(heard, 2, OTHER)) == ([], [3])
