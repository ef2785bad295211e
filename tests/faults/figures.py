"""Every report, counted again in plain Python from the tickets and events that are in the database."""

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Any

import httpx

from tests.services import Rows, Service, until

QUANTILE_ERROR = 0.02
DONE = {"Resolved", "Closed"}
_DAY = timedelta(days=1)

Ticket = dict[str, Any]
Numbers = dict[str, int]


async def check_figures(client: httpx.AsyncClient, services: Iterable[Service], rows: Rows) -> None:
    """All reports, of all tickets and of some, agree with the tickets once these have come to rest."""
    await until(lambda: not _is_behind(rows))
    tickets = [_told(row, rows) for row in rows.tickets.find({"deletedAt": None})]
    assert tickets
    agent = next(t["assignedTo"] for t in tickets if t["assignedTo"] is not None)
    tag = next(t["tags"][0] for t in tickets if t["tags"])
    kinds: list[tuple[dict[str, str], Callable[[Ticket], bool]]] = [
        ({}, lambda _t: True),
        ({"priority": "High"}, lambda t: t["priority"] == "High"),
        ({"agent": str(agent)}, lambda t: t["assignedTo"] == agent),
        ({"agent": "none"}, lambda t: t["assignedTo"] is None),
        ({"tag": tag, "priority": "Medium"}, lambda t: tag in t["tags"] and t["priority"] == "Medium"),
    ]
    for service in services:
        for parameters, is_asked_for in kinds:
            await _check_reports(client, service.url, parameters, [t for t in tickets if is_asked_for(t)])


def _is_behind(rows: Rows) -> bool:
    counted = {row["_id"]: row["version"] for row in rows.stats_tickets.find({}, {"version": 1})}
    progress = rows.stats_progress.find_one({}) or {}
    current = {row["_id"]: row["version"] for row in rows.tickets.find({}, {"version": 1})}
    return counted != current or not progress.get("isDone")


def _told(ticket: Ticket, rows: Rows) -> Ticket:
    """The ticket with the instants of its resolutions and reopenings, by its events."""
    moves: list[datetime] = []
    for event in rows.events.find({"ticketId": ticket["_id"], "type": "ticket.status_changed"}).sort("version"):
        change = event["changes"]["status"]
        if (change["from"] in DONE) != (change["to"] in DONE):
            moves.append(event["at"])
    return {**ticket, "moves": moves}


async def _check_reports(
    client: httpx.AsyncClient, url: str, parameters: dict[str, str], tickets: list[Ticket]
) -> None:
    async def get(report: str) -> Any:
        answer = await client.get(f"{url}/api/analytics/{report}", params=parameters)
        assert answer.status_code == 200, answer.text
        return answer.json()

    resolved = [t for t in tickets if t["status"] in DONE]
    open_now = [t for t in tickets if t["status"] not in DONE]
    took = [_ms(t["resolvedAt"] - t["createdAt"]) for t in resolved]
    first_took = [_ms(t["moves"][0] - t["createdAt"]) for t in tickets if t["moves"]]

    if "tag" not in parameters:  # of agent and tag together no figures are kept
        assert await get("agent-performance") == await _agent_performance(tickets, resolved, get)
    times = await get("resolution-time")
    _check_durations(times, took)
    _check_durations(times["first"], first_took)
    created, done, reopened = (
        Counter(_days(t["createdAt"] for t in tickets)),
        Counter(_days(t["resolvedAt"] for t in resolved)),
        Counter(_days(move for t in tickets for move in t["moves"][1::2])),
    )
    assert {
        item["start"]: (item["created"], item["resolved"], item["reopened"]) for item in (await get("volume"))["items"]
    } == {day: (created[day], done[day], reopened[day]) for day in _from_first_to_today(created)}
    backlog = await get("backlog")
    assert backlog["open"] == len(open_now)
    assert sum(age["open"] for age in backlog["byAge"]) == len(open_now)
    assert [item["open"] for item in backlog["items"][-1:]] == [len(open_now)][: len(backlog["items"])]
    if "tag" not in parameters and "agent" not in parameters:
        tagged: dict[str, Numbers] = defaultdict(lambda: {"created": 0, "resolved": 0, "open": 0})
        for ticket in tickets:
            for tag in set(ticket["tags"]):
                tagged[tag]["created"] += 1
                tagged[tag]["resolved" if ticket["status"] in DONE else "open"] += 1
        shown = {
            item["tag"]: {name: item[name] for name in ("created", "resolved", "open")}
            for item in (await get("tags"))["items"]
        }
        assert len(shown) == min(100, len(tagged))
        assert {tag: tagged[tag] for tag in shown} == shown
    overview = await get("overview")
    assert (overview["created"], overview["resolved"], overview["open"]) == (len(tickets), len(resolved), len(open_now))
    assert overview["reopened"] == sum(t["reopenCount"] for t in tickets) == reopened.total()
    assert overview["avgTime"] == times["avgTime"]
    for report, count in (("sla", "tickets"), ("satisfaction", "count"), ("first-response-time", "count")):
        assert (await get(report))[count] == 0


async def _agent_performance(tickets: list[Ticket], resolved: list[Ticket], get: Any) -> list[dict[str, Any]]:
    names = {row["_id"]: row["username"] for row in await get("agent-performance")}
    agents = {t["assignedTo"] for t in tickets}
    found = []
    for agent in agents:
        took = [_ms(t["resolvedAt"] - t["createdAt"]) for t in resolved if t["assignedTo"] == agent]
        reopened = sum(t["reopenCount"] for t in tickets if t["assignedTo"] == agent)
        if took or reopened:
            key = str(agent) if agent else None
            average = sum(took) / len(took) if took else None
            row = {"_id": key, "username": names.get(key), "resolvedTickets": len(took), "avgTime": average}
            found.append({**row, "reopened": reopened})
    return sorted(found, key=lambda row: (-row["resolvedTickets"], row["_id"] is None, str(row["_id"])))


def _check_durations(report: Mapping[str, Any], took: list[int]) -> None:
    assert report["count"] == len(took)
    if not took:
        assert (report["avgTime"], report["medianMs"], report["p90Ms"]) == (None, None, None)
        return
    assert report["avgTime"] == sum(took) / len(took)
    for name, share in (("medianMs", 0.5), ("p90Ms", 0.9)):
        exact = sorted(took)[max(1, math.ceil(share * len(took))) - 1]
        assert abs(report[name] - exact) <= QUANTILE_ERROR * exact + 0.5


def _ms(duration: timedelta) -> int:
    return duration // timedelta(milliseconds=1)


def _days(instants: Iterable[datetime]) -> list[str]:
    return [instant.date().isoformat() for instant in instants]


def _from_first_to_today(created: Counter[str]) -> list[str]:
    if not created:
        return []
    first, today = date.fromisoformat(min(created)), datetime.now(UTC).date()
    return [(first + _DAY * number).isoformat() for number in range((today - first).days + 1)]
