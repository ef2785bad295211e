"""Attempts that may fail (a password, a one-time code): who fails too often waits, each time longer, never for ever."""

import asyncio
import hashlib
import hmac
import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from beanie import Document
from pydantic import ConfigDict
from pymongo import IndexModel, ReturnDocument
from pymongo.errors import DuplicateKeyError

from .errors import TooManyRequests
from .mongo import collection_of
from .wire import Row, stored_name

# What is forgotten comes this long after the longest delay: waiting is never the way to a clean sheet.
KEEP = timedelta(hours=1)
# As a power of two seconds, 34 years; only keeps the arithmetic within bounds.
_LARGEST_POWER = 30


@dataclass(frozen=True, slots=True)
class Rule:
    """What one kind of value may fail: so many times for nothing, then after 1, 2, 4 … seconds up to `max_delay`."""

    name: str
    free: int
    max_delay: timedelta


Who = Sequence[tuple[Rule, str]]


class FailureRow(Document):
    """How often a value has failed of late. The value itself is nowhere: people type passwords into any field."""

    model_config = ConfigDict(alias_generator=stored_name)

    id: str  # type: ignore[assignment]  # a keyed digest of the rule and the value
    failures: int
    blocked_until: datetime | None = None
    expires_at: datetime

    class Settings:
        name = "failures"
        indexes = [IndexModel("expiresAt", name="expiry", expireAfterSeconds=0)]


class Attempts:
    """Counts failures for all processes together, each before its outcome is known.

    Counted afterwards, any number of parallel guesses would pass the check before the first of them counts.
    """

    def __init__(self, secret: bytes, *, is_on: bool) -> None:
        self._secret = secret
        self._is_on = is_on

    async def begin(self, who: Who, now: datetime) -> None:
        """Counts one failure for each in advance. Raises `TooManyRequests` while one is blocked, and counts nothing."""
        if not self._is_on:
            return
        ends = await asyncio.gather(*(self._count(rule, value, now) for rule, value in who))
        if blocks := [end for end in ends if end is not None]:
            await self.take_back([one for one, end in zip(who, ends, strict=True) if end is None], now)
            raise TooManyRequests(math.ceil((max(blocks) - now).total_seconds()))

    async def take_back(self, who: Who, now: datetime) -> None:
        """As if `begin` had not counted: what was tried could not be checked."""
        await asyncio.gather(*(self._uncount(rule, value, now) for rule, value in who))

    async def succeeded(self, who: Who, now: datetime) -> None:
        """Takes back the failure that `begin` counted; a block stays, or one's own sign-ins would buy guesses."""
        await self._update(who, [{"$set": {"failures": _one_less(now)}}])

    async def forget(self, who: Who) -> None:
        """Starts over, with a clean sheet and without a block."""
        if self._is_on:
            await collection_of(FailureRow).delete_many({"_id": {"$in": [self._id(*one) for one in who]}})

    async def _count(self, rule: Rule, value: str, now: datetime) -> datetime | None:
        """One more failure, unless there is a block: then its end."""
        rows = collection_of(FailureRow)
        change = _one_more(rule, now)
        while True:
            try:
                before = await rows.find_one_and_update(
                    {"_id": self._id(rule, value)}, change, upsert=True, return_document=ReturnDocument.BEFORE
                )
            except DuplicateKeyError:  # another made the row at the same moment
                continue
            end: datetime | None = before["blockedUntil"] if before else None
            return end if end is not None and end > now else None

    async def _uncount(self, rule: Rule, value: str, now: datetime) -> None:
        """As if never counted. A block that began right now is ours: nobody else counts while there is one."""
        own_end = {"$eq": ["$blockedUntil", _end_of_block(rule, now)]}
        ours = {"$cond": [own_end, None, "$blockedUntil"]}
        await self._update([(rule, value)], [{"$set": {"failures": _one_less(now), "blockedUntil": ours}}])

    async def _update(self, who: Who, change: list[Row]) -> None:
        if self._is_on:
            await collection_of(FailureRow).update_many({"_id": {"$in": [self._id(*one) for one in who]}}, change)

    def _id(self, rule: Rule, value: str) -> str:
        return hmac.new(self._secret, f"{rule.name}\0{value}".encode(), hashlib.sha256).hexdigest()


def _one_more(rule: Rule, now: datetime) -> list[Row]:
    is_blocked: Row = {"$gt": ["$blockedUntil", now]}
    return [
        {"$set": {"failures": _unless(is_blocked, "failures", {"$add": [_still_counting(now), 1]})}},
        {
            "$set": {
                "blockedUntil": _unless(is_blocked, "blockedUntil", _end_of_block(rule, now)),
                "expiresAt": _unless(is_blocked, "expiresAt", now + rule.max_delay + KEEP),
            }
        },
    ]


def _unless(condition: Row, field: str, value: Any) -> Row:
    return {"$cond": [condition, f"${field}", value]}


def _still_counting(now: datetime) -> Row:
    """The failures so far; those that are over may be there until the server's next round of expiry."""
    return {"$cond": [{"$gt": ["$expiresAt", now]}, "$failures", 0]}


def _one_less(now: datetime) -> Row:
    return {"$max": [{"$subtract": [_still_counting(now), 1]}, 0]}


def _end_of_block(rule: Rule, now: datetime) -> Row:
    """Until when the failures counted so far block whoever fails at `now`; null for none."""
    power = {"$min": [{"$subtract": ["$failures", rule.free + 1]}, _LARGEST_POWER]}
    delay_ms = {"$min": [{"$multiply": [{"$pow": [2, power]}, 1000]}, int(rule.max_delay.total_seconds() * 1000)]}
    return {"$cond": [{"$gt": ["$failures", rule.free]}, {"$add": [now, delay_ms]}, None]}
