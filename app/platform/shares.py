"""Numbers that every process counts for itself and that all know the sum of, a little later, through MongoDB.

Counting takes no round trip. Each process tells its own share of a number and reads the others', for all numbers that
moved together: one write and one read about twice a second while there is something to tell, none otherwise.
"""

import asyncio
import logging
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta

import pymongo
from beanie import Document
from pydantic import BaseModel, ConfigDict
from pymongo import IndexModel, UpdateOne, WriteConcern
from pymongo.errors import PyMongoError

from .mongo import collection_of, heed_cancellation
from .wire import Row, stored_name

logger = logging.getLogger(__name__)

EXCHANGE_S = 0.5
# What has moved by this part of its limit is told at once.
URGENT_PART = 20
# A database that hangs for longer than this is as good as away.
PATIENCE_S = 2.0
# For a number without an end of its own: how long a share counts that its process does not confirm.
CONFIRMED_S = 5.0
# Rows are looked at for a while longer by processes whose clocks are behind.
KEEP = timedelta(minutes=1)


class ProcessShare(BaseModel):
    """What one process has told of a number."""

    n: int
    until: datetime
    """From then on it counts no more."""


class ShareRow(Document):
    """One number: the shares of all processes that told one."""

    model_config = ConfigDict(alias_generator=stored_name)

    id: str  # type: ignore[assignment]  # which number: its policy, whose, and of which window
    by: dict[str, ProcessShare]
    expires_at: datetime

    class Settings:
        name = "budgets"
        indexes = [IndexModel("expiresAt", name="expiry", expireAfterSeconds=0)]


class Share:
    """This process's part of a number, and what it knows of the others'."""

    __slots__ = ("ends_at", "limit", "others", "own", "row_id", "told", "worth_telling")

    def __init__(self, row_id: str, limit: int, *, worth_telling: int, ends_at: float | None = None) -> None:
        """`ends_at` is when the number is over, in seconds of the epoch; one without goes up and down for ever."""
        self.row_id = row_id
        self.limit = limit
        self.worth_telling = worth_telling
        self.ends_at = ends_at
        self.own = 0
        self.told = 0
        self.others = 0

    @property
    def total(self) -> int:
        return self.own + self.others


class Exchange:
    """Tells shares and learns those of other processes.

    How far the sum can pass a limit that each process holds to: with P processes by (P - 1) times a twentieth of it
    and what one process counts during an exchange. For between two exchanges a process counts no more than that, and
    the process whose last exchange is the latest knows what all others had counted up to theirs.
    """

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._process = uuid.uuid4().hex[:12]
        self._moved: dict[str, Share] = {}
        # Of those that go up and down; what was told of them has to be confirmed, or taken back.
        self._told: dict[str, Share] = {}
        self._wake = asyncio.Event()
        self._hurry = asyncio.Event()
        self._is_away = False

    def moved(self, share: Share) -> None:
        """Its own part has changed."""
        untold = abs(share.own - share.told)
        if untold >= share.worth_telling:
            self._moved[share.row_id] = share
            self._wake.set()
            if untold * URGENT_PART >= share.limit:
                self._hurry.set()

    async def run(self) -> None:
        """Until it is cancelled. While MongoDB is away, each process goes on with what it knows."""
        while True:
            heed_cancellation()
            await self._wake.wait()
            await self._pause()
            try:
                await self.exchange()
            except Exception:  # whatever it is, limits must not be each process's own from then on
                logger.exception("limits could not be shared with other processes")

    async def exchange(self) -> None:
        """Tells what has moved and what has to be confirmed, and learns what others have told of the same."""
        self._wake.clear()
        self._hurry.clear()
        shares, self._moved = self._told | self._moved, {}
        if not shares:
            return
        try:
            with pymongo.timeout(PATIENCE_S):
                await self._tell_and_learn(shares)
        except PyMongoError as error:
            self._failed(shares, error)
        else:
            if self._is_away:
                logger.info("limits are shared with other processes again")
            self._is_away = False
        if self._told or self._moved:
            self._wake.set()

    async def _pause(self) -> None:
        if self._is_away:
            await asyncio.sleep(EXCHANGE_S)
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(EXCHANGE_S):
                await self._hurry.wait()

    async def _tell_and_learn(self, shares: dict[str, Share]) -> None:
        moment = self._clock()
        own = {row_id: _worth(share) for row_id, share in shares.items()}
        rows = collection_of(ShareRow).with_options(write_concern=WriteConcern(1))
        await rows.bulk_write(
            [self._change(share, own[share.row_id], moment) for share in shares.values()], ordered=False
        )
        for row in await rows.find({"_id": {"$in": list(shares)}}, batch_size=len(shares) + 1).to_list():
            share = shares[row["_id"]]
            share.others = self._sum_of_others(row, moment)
            share.told = own[share.row_id]
        self._told = {row_id: share for row_id, share in shares.items() if share.ends_at is None and share.told}
        for share in shares.values():
            if share.ends_at is None and not share.told:
                share.others = 0  # it is not looked at again until it is worth telling

    def _change(self, share: Share, own: int, moment: float) -> UpdateOne:
        until = datetime.fromtimestamp(share.ends_at or moment + CONFIRMED_S, UTC)
        told = {"n": own, "until": until}
        return UpdateOne(
            {"_id": share.row_id}, {"$set": {f"by.{self._process}": told, "expiresAt": until + KEEP}}, upsert=True
        )

    def _sum_of_others(self, row: Row, moment: float) -> int:
        now = datetime.fromtimestamp(moment, UTC)
        return sum(told["n"] for process, told in row["by"].items() if process != self._process and told["until"] > now)

    def _failed(self, shares: dict[str, Share], error: PyMongoError) -> None:
        if not self._is_away:
            logger.warning("limits can't be shared with other processes", extra={"reason": type(error).__name__})
        self._is_away = True
        for share in shares.values():
            if share.ends_at is None:
                share.others = 0  # what goes up and down is soon no longer true
                self._told[share.row_id] = share
            elif share.ends_at > self._clock():
                self._moved[share.row_id] = share


def _worth(share: Share) -> int:
    """What to tell: of what goes up and down, nothing at all while it is little."""
    is_little = share.ends_at is None and share.own < share.worth_telling
    return 0 if is_little else share.own
