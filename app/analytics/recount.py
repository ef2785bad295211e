"""Counts everything again from tickets and events, and compares: the figures must be the same."""

from collections import defaultdict
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import timedelta
from itertools import groupby
from operator import itemgetter
from typing import NamedTuple

from pymongo.asynchronous.client_session import AsyncClientSession

from app.platform.clock import now
from app.platform.mongo import at_one_instant, collection_of
from app.platform.wire import Row
from app.tickets.queries import read_all_tickets

from .contributions import Cell, Sums, add, add_to, by_cell
from .documents import StatsCell, StatsTicket
from .facts import FIELDS, Facts, replay
from .projector import read_histories

_AT_A_TIME = 1_000
# A new ticket is counted after so long at the latest, if a service is at work.
_ON_ITS_WAY = timedelta(seconds=10)


class Difference(NamedTuple):
    """One sum that is not what the tickets say."""

    cell: Cell
    path: str
    stored: int
    recounted: int


@dataclass(frozen=True, slots=True)
class Comparison:
    """How many cells are not what the tickets say, and what differs in the first of them."""

    wrong_cells: int
    differences: list[Difference]


async def compare(detailed: int) -> Comparison:
    """Compares everything, and so many wrong cells in detail.

    Right also beside a service at work: as of one instant, and of each ticket as far as it was counted then. A ticket
    that was never counted is missing from the sums, unless it is only just new.
    """

    async def body(session: AsyncClientSession) -> Comparison:
        wrong = await _find_wrong(session)
        cells = wrong[:detailed]
        recounted = await _recount(set(cells), session) if cells else {}
        stored = {cell: amounts async for cell, amounts in _stored(session, cells)} if cells else {}
        differences = [
            Difference(cell, path, stored.get(cell, {}).get(path, 0), recounted.get(cell, {}).get(path, 0))
            for cell in cells
            for path in sorted({**recounted.get(cell, {}), **stored.get(cell, {})})
        ]
        return Comparison(len(wrong), [one for one in differences if one.stored != one.recounted])

    return await at_one_instant(StatsCell, body)


async def _find_wrong(session: AsyncClientSession) -> list[Cell]:
    """The cells that differ. Of each it keeps a fingerprint alone, which adds up as its sums do: these are too many."""
    fingerprints: dict[Cell, int] = defaultdict(int)
    async for facts in _all_facts(session):
        for amounts, cells in groupby(by_cell(facts), key=itemgetter(1)):
            fingerprint = _fingerprint(amounts)
            for cell, _ in cells:
                fingerprints[cell] += fingerprint
    async for cell, amounts in _stored(session):
        fingerprints[cell] -= _fingerprint(amounts)
    return [cell for cell, fingerprint in fingerprints.items() if fingerprint]


def _fingerprint(amounts: Mapping[str, int]) -> int:
    return sum(amount * hash(path) for path, amount in amounts.items())


async def _recount(cells: AbstractSet[Cell], session: AsyncClientSession) -> Sums:
    """The sums of these cells."""
    sums: Sums = {}
    async for facts in _all_facts(session):
        of_ticket: Sums = {}
        add(of_ticket, facts, 1)
        for cell in cells & of_ticket.keys():
            add_to(sums, cell, of_ticket[cell])
    return sums


async def _all_facts(session: AsyncClientSession) -> AsyncIterator[Facts]:
    """What each ticket should have been counted by."""
    last = None
    while tickets := await read_all_tickets(last, FIELDS, session, limit=_AT_A_TIME):
        ids = [ticket["_id"] for ticket in tickets]
        last = ids[-1]
        rows = await collection_of(StatsTicket).find({"_id": {"$in": ids}}, {"version": 1}, session=session).to_list()
        versions = {row["_id"]: row["version"] for row in rows}
        histories = await read_histories(ids, session)
        for ticket in tickets:
            events = histories.get(ticket["_id"], [])
            version = versions.get(ticket["_id"])
            if version is not None or not _is_on_its_way(events):
                yield replay(ticket, events, until=version)


def _is_on_its_way(events: Sequence[Row]) -> bool:
    return bool(events) and events[0]["version"] == 1 and now() - events[0]["at"] < _ON_ITS_WAY


async def _stored(
    session: AsyncClientSession, cells: Sequence[Cell] | None = None
) -> AsyncIterator[tuple[Cell, Mapping[str, int]]]:
    """The sums in these cells, or all, by their paths."""
    where = {} if cells is None else {"_id": {"$in": [cell._asdict() for cell in cells]}}
    async for row in collection_of(StatsCell).find(where, session=session):
        cell = Cell(**row.pop("_id"))
        yield cell, dict(_leaves(row))


def _leaves(row: Row, above: str = "") -> Iterator[tuple[str, int]]:
    for name, value in row.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{above}{name}.")
        else:
            yield above + name, value
