"""The table of moves and what each sets and clears (contract §4)."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from app.tickets.changes import complete
from app.tickets.lifecycle import LEGAL_MOVES, Status, WaitingOn, consequences

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
EARLIER = NOW - timedelta(days=1)
OPEN, IN_PROGRESS, RESOLVED, CLOSED = Status


def ticket(status: Status, **fields: Any) -> dict[str, Any]:
    return complete({"_id": None, "title": "t", "createdAt": EARLIER, "status": status, **fields})


def test_the_legal_moves_are_the_contracts() -> None:
    assert LEGAL_MOVES == {
        OPEN: (IN_PROGRESS, RESOLVED, CLOSED),
        IN_PROGRESS: (OPEN, RESOLVED, CLOSED),
        RESOLVED: (OPEN, IN_PROGRESS, CLOSED),
        CLOSED: (OPEN,),
    }


@pytest.mark.parametrize("before", [OPEN, IN_PROGRESS])
def test_resolving_sets_resolved_at(before: Status) -> None:
    assert consequences(ticket(before), RESOLVED, NOW) == {"resolvedAt": NOW, "waitingOn": None}


@pytest.mark.parametrize("before", [OPEN, IN_PROGRESS])
def test_closing_without_resolving_sets_both(before: Status) -> None:
    expected = {"resolvedAt": NOW, "closedAt": NOW, "waitingOn": None}

    assert consequences(ticket(before), CLOSED, NOW) == expected


def test_closing_keeps_resolved_at() -> None:
    assert consequences(ticket(RESOLVED, resolvedAt=EARLIER), CLOSED, NOW) == {"closedAt": NOW, "waitingOn": None}


@pytest.mark.parametrize(("before", "after"), [(RESOLVED, OPEN), (RESOLVED, IN_PROGRESS), (CLOSED, OPEN)])
def test_reopening_clears_both_and_counts(before: Status, after: Status) -> None:
    done = ticket(before, resolvedAt=EARLIER, closedAt=EARLIER, reopenCount=2)

    assert consequences(done, after, NOW) == {"resolvedAt": None, "closedAt": None, "reopenCount": 3}


@pytest.mark.parametrize(("before", "after"), [(OPEN, IN_PROGRESS), (IN_PROGRESS, OPEN)])
def test_starting_and_stopping_work_sets_nothing_else(before: Status, after: Status) -> None:
    assert consequences(ticket(before, waitingOn=WaitingOn.CUSTOMER), after, NOW) == {}
