"""What is stored about tickets as figures: sums per cell, the facts that each ticket was counted by, and a place.

A cell holds a sum for every measure, or one per bucket below it, as in `resolutionBuckets.41`. That of the quarters of
a day has the same once more for each quarter of an hour, `q0` to `q95`: `q7.created`, `q7.resolutionBuckets.41`. It is
apart from the day's own, because it is much larger and seldom read. Zeros may remain. The measures are
`contributions`'s.
"""

from datetime import datetime
from enum import StrEnum

from beanie import Document
from bson import ObjectId
from pydantic import BaseModel, ConfigDict
from pymongo import IndexModel

from app.platform.wire import Id, stored_name

from .period import Grain


class Dim(StrEnum):
    """What a cell's tickets have in common beside their priority."""

    ALL = "all"
    AGENT = "agent"
    TAG = "tag"


class CellId(BaseModel):
    """Which figures a cell has. Stored in this order, absent as null: the database compares ids byte by byte."""

    model_config = ConfigDict(arbitrary_types_allowed=True)

    dim: Dim
    value: ObjectId | str | None
    """The agent's id, None for unassigned tickets; or the tag."""
    priority: str | None
    """None: of any priority; only where it is neither of an agent nor of a tag."""
    grain: Grain
    start: datetime | None
    """The first instant of the month or day, in UTC."""


class StatsCell(Document):
    """Sums over the tickets of one kind in one stretch of time."""

    model_config = ConfigDict(alias_generator=stored_name, extra="allow")

    id: CellId  # type: ignore[assignment]

    class Settings:
        name = "stats_cells"
        indexes = [
            IndexModel(
                [(f"_id.{part}", 1) for part in ("dim", "value", "priority", "grain", "start")], name="by_value"
            ),
            IndexModel([(f"_id.{part}", 1) for part in ("dim", "priority", "grain", "start")], name="by_period"),
        ]


class StatsTicket(Document):
    """What a ticket was counted by, as `Facts.as_row` writes it: what is absent is left out, there being millions."""

    model_config = ConfigDict(alias_generator=stored_name, extra="allow")

    version: int

    class Settings:
        name = "stats_tickets"


class StatsProgress(Document):
    """How far the counting of the tickets from before has come; one row."""

    model_config = ConfigDict(alias_generator=stored_name)

    id: str  # type: ignore[assignment]
    last: Id | None = None
    """All tickets up to this one are counted."""
    tickets: int = 0
    """How many those are."""
    is_done: bool = False
    is_emptying: bool = False
    """Cells and counted tickets are being removed, and only some may be left."""

    class Settings:
        name = "stats_progress"
