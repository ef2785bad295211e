"""Each report counted over the tickets in plain Python, as of one present, for any question."""

from collections import Counter
from collections.abc import Callable, Iterable
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from itertools import pairwise
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import pytest
from bson import ObjectId

from app.analytics.facts import Facts, Outcome
from app.platform.wire import Row

NOW = datetime(2026, 4, 14, 9, 37, 11, 123_000, tzinfo=UTC)
MS = timedelta(milliseconds=1)
TAGS = ["printer", "network", "größe.$x"]
AGENTS = [ObjectId(f"{n:024x}") for n in (1, 2, 3)]


class Asked(NamedTuple):
    """A question, understood anew."""

    start: datetime | None
    end: datetime | None
    zone: tzinfo
    tag: str | None
    tickets: list[Facts]

    def has(self, moment: datetime | None) -> bool:
        """Whether it is asked about this instant; one that is not known belongs to all time alone."""
        if moment is None:
            return self.start is None and self.end is None
        return (self.start is None or moment >= self.start) and (self.end is None or moment < self.end)

    def day(self, moment: datetime) -> date:
        return moment.astimezone(self.zone).date()

    def midnight(self, day: date) -> datetime:
        return datetime.combine(day, time.min, self.zone)


def understood(question: dict[str, str], tickets: Iterable[Facts]) -> Asked:
    zone = ZoneInfo(question.get("tz", "UTC"))

    def instant(name: str) -> datetime | None:
        if name not in question:
            return None
        moment = datetime.fromisoformat(question[name])
        return (moment if moment.tzinfo else moment.replace(tzinfo=zone)).astimezone(UTC)

    agent = question.get("agent")
    chosen = [
        one
        for one in tickets
        if question.get("priority") in (None, one.priority)
        and (agent is None or one.agent == (None if agent == "none" else ObjectId(agent)))
        and (question.get("tag") is None or question["tag"] in one.tags)
    ]
    return Asked(instant("from"), instant("to"), zone, question.get("tag"), chosen)


def check_durations(found: Row, durations: list[timedelta], average: Any) -> None:
    """Averages are exact, quantiles within 2 % of the nearest rank's."""
    ms = sorted(duration // MS for duration in durations)
    assert found["count"] == len(ms)
    assert average == (sum(ms) / len(ms) if ms else None)
    for name, share in (("medianMs", 50), ("p90Ms", 90)):
        if ms:
            exact = ms[-(-share * len(ms) // 100) - 1]
            assert abs(found[name] - exact) <= 0.02 * abs(exact) + 0.5
        else:
            assert found[name] is None


def resolutions(asked: Asked) -> list[timedelta]:
    return [one.resolved_at - one.created_at for one in asked.tickets if one.resolved_at and asked.has(one.resolved_at)]


def check_resolution_time(found: Row, asked: Asked) -> None:
    check_durations(found, resolutions(asked), found["avgTime"])
    firsts = [
        one.moves[0] - one.created_at for one in asked.tickets if one.moves and one.moves[0] and asked.has(one.moves[0])
    ]
    check_durations(found["first"], firsts, found["first"]["avgTime"])
    assert (found["resolution"], found["quantileError"]) == ("last", 0.02)


def check_first_response(found: Row, asked: Asked) -> None:
    waits = [
        one.first_responded_at - one.created_at
        for one in asked.tickets
        if one.first_responded_at and asked.has(one.first_responded_at)
    ]
    mean = sum(waits, timedelta()) / MS / len(waits) if waits else None
    assert found["avgMs"] == (None if mean is None else pytest.approx(mean, abs=0.5))
    check_durations({**found}, waits, None if mean is None else sum(wait // MS for wait in waits) / len(waits))


def resolved(asked: Asked, tickets: Iterable[Facts]) -> int:
    return sum(asked.has(one.resolved_at) for one in tickets if one.resolved_at or one.is_undated)


def reopenings(one: Facts) -> list[datetime]:
    return [at for at in one.moves[1::2] if at]


def check_volume(found: Row, asked: Asked) -> None:
    counts: Counter[tuple[str, str]] = Counter()
    for one in asked.tickets:
        happened = [("created", one.created_at), ("resolved", one.resolved_at)]
        for name, at in [*happened, *(("reopened", at) for at in reopenings(one))]:
            if at is not None and asked.has(at):
                day = asked.day(at)
                start = {
                    "day": day,
                    "week": day - timedelta(days=day.weekday()),
                    "month": day.replace(day=1),
                }[found["interval"]]
                counts[name, start.isoformat()] += 1
    shown = {
        (name, item["start"]): item[name] for item in found["items"] for name in ("created", "resolved", "reopened")
    }
    assert {key: count for key, count in shown.items() if count} == dict(counts)
    check_days([item["start"] for item in found["items"]], asked, min((start for _, start in counts), default=None))


def check_days(starts: list[str], asked: Asked, first: str | None, *, may_be_future: bool = True) -> None:
    """There are all intervals, from the first one that is meant to the last."""
    today = asked.day(NOW)
    end = asked.day(asked.end - MS) if asked.end else today
    if not may_be_future:
        end = min(end, today)
    assert starts == sorted(set(starts))
    if first is None if asked.start is None else asked.day(asked.start) > end:
        assert starts == []
        return
    assert date.fromisoformat(starts[-1]) <= end < date.fromisoformat(starts[-1]) + timedelta(days=31)
    if asked.start is None:
        assert starts[0] == first
    else:
        assert date.fromisoformat(starts[0]) <= asked.day(asked.start)
    gaps = {(date.fromisoformat(b) - date.fromisoformat(a)).days for a, b in pairwise(starts)}
    assert gaps <= {1} or gaps <= {7} or gaps <= {28, 29, 30, 31}


def check_backlog(found: Row, asked: Asked) -> None:
    def is_open(one: Facts, at: datetime) -> bool:
        """Just before the instant."""
        if None in one.moves:
            return False
        return one.created_at < at and sum(1 for move in one.moves if move and move < at) % 2 == 0

    for item in found["items"]:
        end = asked.midnight(date.fromisoformat(item["date"]) + timedelta(days=1)).astimezone(UTC)
        end = min(end, asked.end) if asked.end else end
        assert item["open"] == sum(is_open(one, end) for one in asked.tickets), item
    moments = [at for one in asked.tickets for at in (one.created_at, *one.moves) if at and None not in one.moves]
    moments += [one.created_at for one in asked.tickets]
    first = min((asked.day(at).isoformat() for at in moments if asked.has(at)), default=None)
    check_days([item["date"] for item in found["items"]], asked, first, may_be_future=False)
    now_open = [one for one in asked.tickets if one.is_open]
    assert found["open"] == len(now_open)
    for age in found["byAge"]:
        days = [(asked.day(NOW) - asked.day(one.created_at)).days for one in now_open]
        assert age["open"] == sum(
            age["fromDays"] <= day and (age["toDays"] is None or day < age["toDays"]) for day in days
        )
    assert sum(age["open"] for age in found["byAge"]) == len(now_open)


def check_sla(found: Row, asked: Asked) -> None:
    slas = [one.sla for one in asked.tickets if one.sla and asked.has(one.created_at)]
    assert found["tickets"] == len(slas)
    for name, outcomes in (
        ("firstResponse", Counter(sla.first_response for sla in slas)),
        ("resolution", Counter(sla.resolution for sla in slas)),
    ):
        met, breached = outcomes[Outcome.MET], outcomes[Outcome.BREACHED]
        rate = met / (met + breached) if met + breached else None
        assert found[name] == {"met": met, "breached": breached, "rate": rate}


def check_satisfaction(found: Row, asked: Asked) -> None:
    scores = [one.rating.score for one in asked.tickets if one.rating and asked.has(one.rating.at)]
    assert found == {
        "count": len(scores),
        "average": sum(scores) / len(scores) if scores else None,
        "scores": {str(score): scores.count(score) for score in range(1, 6)},
    }


def average_time(asked: Asked, tickets: list[Facts]) -> float | None:
    times = [duration // MS for duration in resolutions(asked._replace(tickets=tickets))]
    return sum(times) / len(times) if times else None


def check_tags(found: Row, asked: Asked) -> None:
    items: list[Row] = []
    for tag in [asked.tag] if asked.tag else TAGS:
        tagged = [one for one in asked.tickets if tag in one.tags]
        created = [one for one in tagged if asked.has(one.created_at)]
        item: Row = {
            "tag": tag,
            "created": len(created),
            "resolved": resolved(asked, tagged),
            "open": sum(one.is_open for one in created),
            "avgTime": average_time(asked, tagged),
        }
        items += [item] if item["created"] or item["resolved"] else []
    assert found["items"] == sorted(items, key=lambda item: (-item["created"], item["tag"]))


def check_agents(found: list[Row], asked: Asked) -> None:
    rows: list[Row] = []
    for agent in (*AGENTS, None):
        own = [one for one in asked.tickets if one.agent == agent]
        row: Row = {
            "_id": agent,
            "username": f"agent {agent}" if agent in AGENTS[:2] else None,
            "resolvedTickets": resolved(asked, own),
            "avgTime": average_time(asked, own),
            "reopened": sum(asked.has(at) for one in own for at in reopenings(one)),
        }
        rows += [row] if row["resolvedTickets"] or row["reopened"] else []
    assert found == sorted(rows, key=lambda row: -row["resolvedTickets"])


def check_overview(found: Row, asked: Asked) -> None:
    created = [one for one in asked.tickets if asked.has(one.created_at)]
    assert found["created"] == len(created)
    assert found["open"] == sum(one.is_open for one in created)
    assert found["resolved"] == resolved(asked, asked.tickets)
    assert found["reopened"] == sum(asked.has(at) for one in asked.tickets for at in reopenings(one))
    times = resolutions(asked)
    check_durations({**found, "count": len(times)}, times, found["avgTime"])
    check_first_response(found["firstResponse"], asked)
    check_sla(found["sla"], asked)
    check_satisfaction(found["satisfaction"], asked)


CHECKS: dict[str, Callable[[Any, Asked], None]] = {
    "resolution_time": check_resolution_time,
    "first_response_time": check_first_response,
    "volume": check_volume,
    "backlog": check_backlog,
    "sla": check_sla,
    "satisfaction": check_satisfaction,
    "overview": check_overview,
    "tags": check_tags,
    "agent_performance": check_agents,
}
