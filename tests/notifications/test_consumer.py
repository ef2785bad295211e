"""From events to deliveries: one per person and ticket, few in a minute, and none twice."""

import random
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import pytest
from bson import ObjectId

from app.mail.documents import Delivery
from app.notifications import consumer
from app.notifications.consumer import HOUR, MAX_EVENTS, WINDOW, notify
from app.platform.clock import now
from app.platform.mongo import collection_of, transaction
from app.platform.wire import Row
from tests.conftest import COMMANDS
from tests.notifications.life import Life, person

ANN, BOB = person(), person(username="bob")
MINUTE = timedelta(minutes=1)
# Fewer than in truth, to reach them sooner.
CAP = 60

pytestmark = pytest.mark.usefixtures("database")


class Clock:
    def __init__(self) -> None:
        self.at = now()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(consumer, "now", lambda: clock.at)
    return clock


async def told(events: Sequence[Row]) -> None:
    """As the log's consumer hands them over."""
    for start in range(0, len(events), 100):
        batch = list(events[start : start + 100])
        await transaction(Delivery, lambda session, batch=batch: notify(batch, session))  # type: ignore[misc]


async def deliveries(**where: Any) -> list[Row]:
    return await collection_of(Delivery).find(where).sort([("scheduledAt", 1), ("_id", 1)]).to_list()


async def sent(row: Row) -> None:
    """Somebody claimed and sent it."""
    await collection_of(Delivery).update_one({"_id": row["_id"]}, {"$set": {"state": "handed_over", "attempts": 1}})


def watched() -> Life:
    return Life(requester=ANN["id"], watchers=[BOB["id"]])


class TestOne:
    async def test_is_due_at_once_and_holds_nothing_but_references(self, clock: Clock) -> None:
        life = Life(requester=ANN["id"])
        event = life.commented(None, "Hello")

        await told([event])

        (row,) = await deliveries()
        assert row == {
            "_id": row["_id"],
            "state": "pending",
            "isUrgent": False,
            "userId": ANN["id"],
            "ticketId": life.ticket["_id"],
            "events": [event["_id"]],
            **dict.fromkeys(
                ("to", "subject", "sealed", "goodUntil", "claim", "handedOverAt", "lastError", "expiresAt")
            ),
            "attempts": 0,
            "createdAt": clock.at,
            "scheduledAt": clock.at,
            "dueAt": clock.at,
            "giveUpAt": clock.at + timedelta(days=1),
        }

    async def test_is_nobody_s_when_nobody_is_concerned(self) -> None:
        life = Life(requester=ANN["id"])
        before = len(COMMANDS.names)

        await told([life.step(title="New"), Life().commented(None, "To whom?")])

        assert await deliveries() == []
        assert [name for name in COMMANDS.names[before:] if name not in ("find", "commitTransaction")] == []


class TestGathering:
    async def test_a_hundred_changes_in_a_minute_are_two_mails(self, clock: Clock) -> None:
        life = watched()
        started = clock.at
        await told([life.commented(None, "The first")])
        for row in await deliveries():
            await sent(row)
        for _ in range(11):
            clock.at += timedelta(seconds=5)
            await told([life.commented(None, str(number)) for number in range(9)])

        for person_ in (ANN, BOB):
            first, second = await deliveries(userId=person_["id"])
            assert (first["scheduledAt"], second["scheduledAt"]) == (started, started + WINDOW)
            assert first["events"] + second["events"] == [event["_id"] for event in life.events]

    async def test_a_batch_is_one_mail_per_person_and_ticket_by_few_commands(self) -> None:
        lives = [watched() for _ in range(3)]
        events = [life.commented(None, "Hm") for _ in range(30) for life in lives]
        before = len(COMMANDS.names)

        await told(events)

        assert len(COMMANDS.names) - before <= 6
        rows = await deliveries()
        assert sorted((row["ticketId"], row["userId"], len(row["events"])) for row in rows) == sorted(
            (life.ticket["_id"], person_["id"], 30) for life in lives for person_ in (ANN, BOB)
        )

    @pytest.mark.parametrize(
        "state", [{"attempts": 1}, {"state": "failed", "attempts": 1}, {"state": "dead", "attempts": 9}]
    )
    async def test_a_mail_that_somebody_has_begun_to_send_is_left_alone(self, clock: Clock, state: Row) -> None:
        life = Life(requester=ANN["id"])
        await told([life.commented(None, "One")])
        await collection_of(Delivery).update_one({}, {"$set": state})

        await told([life.commented(None, "Two")])
        clock.at += MINUTE * 2
        await told([life.commented(None, "Three")])

        first, second = await deliveries()
        assert first["events"] == [life.events[0]["_id"]]
        assert second["events"] == [event["_id"] for event in life.events[1:]]
        assert second["scheduledAt"] == first["scheduledAt"] + WINDOW

    async def test_after_a_minute_the_next_goes_at_once(self, clock: Clock) -> None:
        life = Life(requester=ANN["id"])
        await told([life.commented(None, "One")])
        await sent((await deliveries())[0])
        clock.at += MINUTE * 2

        await told([life.commented(None, "Two")])

        assert [row["scheduledAt"] for row in await deliveries()] == [clock.at - MINUTE * 2, clock.at]

    async def test_what_is_claimed_meanwhile_is_not_added_to(self, clock: Clock) -> None:
        life = Life(requester=ANN["id"])
        await told([life.commented(None, "One")])
        batch = [life.commented(None, "Two")]
        runs = 0

        async def body(session: Any) -> None:
            nonlocal runs
            runs += 1
            # The transaction's view of the data begins here; then the sender takes the mail.
            await collection_of(Delivery).find_one({}, session=session)
            if runs == 1:
                await collection_of(Delivery).update_one({}, {"$inc": {"attempts": 1}})
            await notify(batch, session)

        await transaction(Delivery, body)

        assert runs == 2
        assert [len(row["events"]) for row in await deliveries()] == [1, 1]

    async def test_a_mail_does_not_grow_without_end(self, clock: Clock) -> None:
        life = Life(requester=ANN["id"])
        await told([life.commented(None, str(number)) for number in range(MAX_EVENTS + 150)])

        (row,) = await deliveries()
        ids = [event["_id"] for event in life.events]
        assert len(row["events"]) == MAX_EVENTS
        assert row["events"][: MAX_EVENTS // 2] == ids[: MAX_EVENTS // 2]
        assert row["events"][-100:] == ids[-100:]

    async def test_nor_does_it_begin_too_large(self, clock: Clock) -> None:
        life = Life(requester=ANN["id"])
        events = [life.commented(None, str(number)) for number in range(MAX_EVENTS + 150)]
        await transaction(Delivery, lambda session: notify(events, session))

        (row,) = await deliveries()
        ids = [event["_id"] for event in events]
        assert row["events"] == ids[: MAX_EVENTS // 2] + ids[-MAX_EVENTS // 2 :]


class TestRepeats:
    async def test_change_nothing(self, clock: Clock) -> None:
        lives = [watched(), watched()]
        for life in lives:
            life.commented(None, "One")
            await told(life.events)
        await sent((await deliveries())[0])
        before = await deliveries()

        clock.at += HOUR * 3
        await told([event for life in lives for event in life.events])
        await told([event for life in lives for event in life.events * 2])

        assert await deliveries() == before

    async def test_only_what_is_new_of_a_batch_is_told(self) -> None:
        life = watched()
        await told([life.commented(None, "One")])

        await told([life.events[0], life.commented(BOB, "Two"), life.events[1]])

        assert {row["userId"]: len(row["events"]) for row in await deliveries()} == {ANN["id"]: 2, BOB["id"]: 1}


@pytest.fixture
def capped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(consumer, "MAX_PER_HOUR", CAP)


@pytest.mark.usefixtures("capped")
class TestCap:
    async def test_later_mail_waits_and_none_is_lost(self, clock: Clock) -> None:
        start = clock.at
        for _ in range(15):
            await told([Life(requester=ANN["id"]).commented(None, "Hm") for _ in range(CAP // 6)])
            clock.at += MINUTE

        places = [row["scheduledAt"] for row in await deliveries(userId=ANN["id"])]

        assert len(places) == CAP * 2 + 30
        assert places[59:61] == [start + MINUTE * 5, start + HOUR]
        assert_at_most_so_many_in_any_hour(places)

    async def test_is_the_same_for_few_people_and_for_many(self, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
        """Whoever is told with others, in batches of any size, waits as long as if told alone."""
        chance = random.Random(3)
        people = [ANN["id"], *(ObjectId() for _ in range(3))]
        kept: dict[ObjectId, list[datetime]] = {user_id: [] for user_id in people}
        for few in (0, 8) * 12:
            monkeypatch.setattr(consumer, "FEW_PEOPLE", few)
            batch = chance.choices(people, weights=[20, 6, 2, 1], k=chance.randrange(1, 40))
            await told([Life(requester=user_id).commented(None, "Hm") for user_id in batch])
            for user_id in batch:
                newest = sorted(place for place in kept[user_id] if place > clock.at - HOUR)[-CAP:]
                kept[user_id].append(max(clock.at, newest[0] + HOUR) if len(newest) == CAP else clock.at)
            clock.at += MINUTE * chance.randrange(12)

        for user_id, expected in kept.items():
            assert [row["scheduledAt"] for row in await deliveries(userId=user_id)] == sorted(expected)
        assert len(kept[ANN["id"]]) > 3 * CAP

    async def test_is_kept_within_a_batch_and_counts_for_each_alone(self, clock: Clock) -> None:
        lives = [Life(requester=ANN["id"]) for _ in range(90)]

        await told([life.commented(None, "Hm") for life in [*lives, Life(requester=BOB["id"])]])

        places = [row["scheduledAt"] for row in await deliveries(userId=ANN["id"])]
        assert places == [clock.at] * CAP + [clock.at + HOUR] * 30
        assert [row["scheduledAt"] for row in await deliveries(userId=BOB["id"])] == [clock.at]
        # A mail that waits is added to as any other.
        waiting = (await deliveries(userId=ANN["id"]))[-1]
        await told([next(life for life in lives if life.ticket["_id"] == waiting["ticketId"]).commented(None, "More")])
        assert len(await deliveries(userId=ANN["id"])) == 90

    async def test_what_went_over_an_hour_ago_counts_no_more(self, clock: Clock) -> None:
        await told([Life(requester=ANN["id"]).commented(None, "Hm") for _ in range(CAP)])
        clock.at += HOUR

        await told([Life(requester=ANN["id"]).commented(None, "Hm")])

        assert (await deliveries())[-1]["scheduledAt"] == clock.at


def assert_at_most_so_many_in_any_hour(places: list[datetime]) -> None:
    for first, last in zip(places, places[CAP:], strict=False):
        assert last - first >= HOUR
