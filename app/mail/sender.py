"""Taking mail out of the queue and handing it over: at least once, with growing pauses, never in a request's way."""

import asyncio
import logging
import random
import time
import uuid
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import timedelta

from pymongo import DESCENDING, UpdateOne
from pymongo.errors import PyMongoError

from app.platform.batching import Batcher
from app.platform.clock import now
from app.platform.metrics import MAIL_ATTEMPTS, MAIL_OLDEST, MAIL_QUEUE
from app.platform.mongo import collection_of, heed_cancellation
from app.platform.wire import Row

from .documents import WAITING, Delivery, DeliveryState, Suppression
from .mailers import Mailer, Undelivered
from .message import Message
from .outbox import Outbox

logger = logging.getLogger(__name__)

SIDE_BY_SIDE = 8
# After some were taken, before more are: a queue of thousands must not take the processor from requests, and of those
# that go together each costs less.
REST_S = 0.125
# Of a processor in use since the last rest, mail's own part included; from there on the rests are so much longer.
BUSY_SHARE, BUSY_FACTOR = 0.3, 8
# How soon a mail that another process has queued, or that has become due, is seen.
POLL_S = 0.5
OUTAGE_PAUSE_S = 2.0
# Longer than any attempt takes: then the process that made it is gone, and another one tries again.
CLAIM = timedelta(seconds=60)
FIRST_PAUSE_S, LONGEST_PAUSE_S = 2.0, 3600.0
# What a provider may ask for; more would be a mistake of its clock or ours.
LONGEST_SILENCE_S = 3600.0
KEEP = timedelta(days=30)
KEEP_DEAD = timedelta(days=90)
COUNT_EVERY_S = 10.0
FAREWELL_S = 3.0

Render = Callable[[Row], Awaitable[Message | None]]


class Sender:
    """Sends what is due, side by side, in every process; a claim keeps two from sending the same mail.

    `render` makes the mail of a delivery that holds none, at the moment of sending; None: nobody is to get it any more.
    """

    def __init__(self, mailer: Mailer, outbox: Outbox, render: Render) -> None:
        self._mailer = mailer
        self._outbox = outbox
        self._render = render
        self._slots = asyncio.Semaphore(SIDE_BY_SIDE)
        self._stopping = asyncio.Event()
        self._silent_until = 0.0
        self._counted_at = 0.0
        self._clocks = (time.process_time(), time.monotonic())
        # By one command what comes up for several mails at the same time.
        self._is_suppressed = Batcher(_are_suppressed, at_most=SIDE_BY_SIDE)
        self._note = Batcher(_write, at_most=SIDE_BY_SIDE)

    async def run(self) -> None:
        """Until `stop`, or for ever."""
        async with asyncio.TaskGroup() as group:
            while not self._stopping.is_set():
                heed_cancellation()
                await self._slots.acquire()
                slots = 1
                while not self._slots.locked():
                    await self._slots.acquire()
                    slots += 1
                deliveries, pause_s = await self._next(slots)
                for delivery in deliveries:
                    group.create_task(self._in_slot(delivery))
                for _ in range(slots - len(deliveries)):
                    self._slots.release()
                with suppress(TimeoutError):
                    async with asyncio.timeout(pause_s):
                        await self._stopping.wait()

    async def _next(self, at_most: int) -> tuple[list[Row], float]:
        """What to send now, and how long to take no more after that."""
        if self._stopping.is_set():
            return [], 0.0
        try:
            await self._count()
            deliveries = await self.claim(at_most)
        except PyMongoError as error:
            logger.warning("mail waits for the database", extra={"reason": type(error).__name__})
            return [], OUTAGE_PAUSE_S
        if deliveries:
            return deliveries, self._rest_s()
        return [], max(POLL_S, min(self._silent_until - time.monotonic(), LONGEST_SILENCE_S))

    def _rest_s(self) -> float:
        before, self._clocks = self._clocks, (time.process_time(), time.monotonic())
        used_s, passed_s = (now - then for now, then in zip(self._clocks, before, strict=True))
        return REST_S * BUSY_FACTOR if used_s > BUSY_SHARE * passed_s else REST_S

    async def stop(self) -> None:
        """Takes no more mail out of the queue, and waits a while for that which is just being handed over.

        What is not done then would be sent a second time, by another process or after the next start.
        """
        self._stopping.set()
        with suppress(TimeoutError):
            async with asyncio.timeout(FAREWELL_S):
                for _ in range(SIDE_BY_SIDE):
                    await self._slots.acquire()

    async def claim(self, at_most: int) -> list[Row]:
        """The next mails that are due, for this process alone, and for a while; none if there are none to send now."""
        if time.monotonic() < self._silent_until:
            return []
        at, mine = now(), uuid.uuid4().hex
        deliveries = collection_of(Delivery)
        due: Row = {"state": {"$in": WAITING}, "dueAt": {"$lte": at}}
        first = deliveries.find(due, {"_id": 1}).sort([("isUrgent", DESCENDING), ("dueAt", 1)]).limit(at_most)
        ids = [row["_id"] for row in await first.to_list()]
        if not ids:
            return []
        # Of each anew, whether it is due: another process may have been faster.
        change = {"$set": {"dueAt": at + CLAIM, "claim": mine}, "$inc": {"attempts": 1}}
        await deliveries.update_many({"_id": {"$in": ids}, **due}, change)
        rows = {row["_id"]: row async for row in deliveries.find({"_id": {"$in": ids}, "claim": mine})}
        return [rows[delivery_id] for delivery_id in ids if delivery_id in rows]

    async def deliver(self, delivery: Row) -> None:
        """Hands a claimed mail over, and notes what became of it. Raises `PyMongoError`; it is then tried again."""
        try:
            message = await self._message_of(delivery)
            # Before it goes: what the provider says of it may come before we have heard the end of our call.
            await self._set(delivery, {"to": message.to, "subject": message.subject})
            await self._check_allowed(message.to)
            await self._mailer.send(message, str(delivery["_id"]))
        except PyMongoError:
            raise
        except _Skipped as reason:
            await self._end(delivery, DeliveryState.SKIPPED, lastError=str(reason))
        except Undelivered as failure:
            await self._note_failure(delivery, failure)
        except Exception as error:  # noqa: BLE001 - whatever a mailer meets, the next mail has its turn
            # Without its text, which could show the address.
            logger.error("a mail could not be sent", extra=_named(delivery, type(error).__name__))  # noqa: TRY400
            await self._note_failure(delivery, Undelivered(type(error).__name__))
        else:
            await self._end(delivery, DeliveryState.HANDED_OVER, handedOverAt=now(), lastError=None)

    async def _in_slot(self, delivery: Row) -> None:
        try:
            await self.deliver(delivery)
        except PyMongoError as error:
            logger.warning("what became of a mail could not be noted", extra=_named(delivery, type(error).__name__))
        finally:
            self._slots.release()

    async def _message_of(self, delivery: Row) -> Message:
        if delivery["goodUntil"] is not None and now() >= delivery["goodUntil"]:
            raise Undelivered("it came to be too late for it", is_final=True)
        if delivery["sealed"] is None:
            message = await self._render(delivery)
            if message is None:
                raise _Skipped("there was nobody left to tell")
            return message
        opened = self._outbox.open(delivery["sealed"])
        if opened is None:
            raise Undelivered("no key opens it any more", is_final=True)
        return opened

    async def _check_allowed(self, address: str) -> None:
        if await self._is_suppressed(address.casefold()):
            raise _Skipped("mail to this address came back")

    async def _note_failure(self, delivery: Row, failure: Undelivered) -> None:
        at = now()
        pause_s = failure.retry_after_s
        if pause_s is None:
            # Half of it by chance, so that what failed together does not come back together.
            longest_s = min(FIRST_PAUSE_S * 2.0 ** (delivery["attempts"] - 1), LONGEST_PAUSE_S)
            pause_s = random.uniform(longest_s / 2, longest_s)  # noqa: S311 - jitter, no secret
        else:
            pause_s = min(pause_s, LONGEST_SILENCE_S)
            self._silent_until = max(self._silent_until, time.monotonic() + pause_s)
        due_at = at + timedelta(seconds=pause_s)
        if failure.is_final or due_at >= delivery["giveUpAt"]:
            await self._end(delivery, DeliveryState.DEAD, lastError=failure.reason)
            logger.error("a mail was given up", extra=_named(delivery, failure.reason.partition(" ")[0]))
        else:
            MAIL_ATTEMPTS.labels(DeliveryState.FAILED).inc()
            changed = {"state": DeliveryState.FAILED, "dueAt": due_at, "claim": None, "lastError": failure.reason}
            await self._set(delivery, changed)

    async def _end(self, delivery: Row, state: DeliveryState, **fields: object) -> None:
        """The last state of our making. What can be tried again keeps its content; the row is kept for a while."""
        MAIL_ATTEMPTS.labels(state).inc()
        kept = {} if state is DeliveryState.DEAD else {"sealed": None}
        expires_at = now() + (KEEP_DEAD if state is DeliveryState.DEAD else KEEP)
        await self._set(delivery, {"state": state, "claim": None, "expiresAt": expires_at, **kept, **fields})

    async def _set(self, delivery: Row, fields: Row) -> None:
        """Only as long as the claim is ours, and the provider has not told us more."""
        mine: Row = {"_id": delivery["_id"], "claim": delivery["claim"], "state": {"$in": WAITING}}
        await self._note(UpdateOne(mine, {"$set": fields}))

    async def _count(self) -> None:
        """Tells the metrics how long the queue is, and how old."""
        if time.monotonic() - self._counted_at < COUNT_EVERY_S:
            return
        self._counted_at = time.monotonic()
        shown = (*WAITING, DeliveryState.DEAD)
        grouped = {"_id": "$state", "count": {"$sum": 1}, "oldest": {"$min": "$createdAt"}}
        cursor = await collection_of(Delivery).aggregate([{"$match": {"state": {"$in": shown}}}, {"$group": grouped}])
        found = {row["_id"]: row for row in await cursor.to_list()}
        for state in shown:
            MAIL_QUEUE.labels(state).set(found[state]["count"] if state in found else 0)
        oldest = min((found[state]["oldest"] for state in WAITING if state in found), default=None)
        MAIL_OLDEST.set((now() - oldest).total_seconds() if oldest else 0)


class _Skipped(Exception):
    """Nobody is to get the mail."""


async def _are_suppressed(addresses: list[str]) -> list[bool]:
    rows = await collection_of(Suppression).find({"_id": {"$in": list(set(addresses))}}, {"_id": 1}).to_list()
    left_alone = {row["_id"] for row in rows}
    return [address in left_alone for address in addresses]


async def _write(notes: list[UpdateOne]) -> list[None]:
    await collection_of(Delivery).bulk_write(notes, ordered=False)
    return [None] * len(notes)


def _named(delivery: Row, reason: str) -> Row:
    return {"delivery": str(delivery["_id"]), "reason": reason}
