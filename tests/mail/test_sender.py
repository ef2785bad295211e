"""The queue: nothing is lost, nothing is sent twice without need, and no refusal is taken for a delay."""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest
from bson import ObjectId
from cryptography.fernet import Fernet
from prometheus_client import REGISTRY

from app.mail import sender as sending
from app.mail.documents import Delivery, DeliveryState, Suppression
from app.mail.mailers import Undelivered
from app.mail.message import Message
from app.mail.outbox import TRY_FOR, Outbox, encrypt_anew, new_delivery
from app.mail.sender import CLAIM, SIDE_BY_SIDE, Sender
from app.mail.sendgrid import SendGridMailer
from app.platform.clock import now
from app.platform.mongo import collection_of, transaction
from app.platform.secretbox import SecretBox
from app.platform.wire import Row
from tests.conftest import COMMANDS
from tests.live import eventually
from tests.mail.provider import CUT, HANG, RESET, Answer, Call, Provider
from tests.mailbox import SENDER, send_all

pytestmark = pytest.mark.usefixtures("database")

SECRETS = SecretBox([Fernet.generate_key()])
OUTBOX = Outbox(SECRETS)


def mail(number: int = 0) -> Message:
    return Message(to=f"user{number}@example.com", subject=f"number {number}", text="a secret", html="<p>a secret</p>")


async def post(message: Message | None, **more: Any) -> None:
    await transaction(Delivery, lambda session: OUTBOX.post(message, session, **more))


async def nobody(_delivery: Row) -> None:
    return None


async def deliveries() -> list[Row]:
    return await collection_of(Delivery).find().sort("_id", 1).to_list()


async def the_delivery() -> Row:
    (row,) = await deliveries()
    return row


async def let_time_pass() -> None:
    """All that waits is due."""
    await collection_of(Delivery).update_many({}, {"$set": {"dueAt": now() - timedelta(seconds=1)}})


@pytest.fixture
async def provider() -> AsyncIterator[Provider]:
    async with Provider() as provider:
        yield provider


@pytest.fixture
def sender(provider: Provider) -> Sender:
    return Sender(SendGridMailer("key", provider.url, SENDER), OUTBOX, nobody)


@pytest.fixture
def hasty_sender(provider: Provider) -> Sender:
    """For calls that hang. A call that a busy machine delays is made again, too, though it had succeeded."""
    return Sender(SendGridMailer("key", provider.url, SENDER, step_s=0.5), OUTBOX, nobody)


class TestPosting:
    async def test_is_part_of_the_change(self, sender: Sender, provider: Provider) -> None:
        async def change_mind(session: Any) -> None:
            await OUTBOX.post(mail(1), session)
            raise KeyError

        with pytest.raises(KeyError):
            await transaction(Delivery, change_mind)
        await post(mail(2))
        await post(None)

        await send_all(sender)

        assert [call.to for call in provider.accepted] == ["user2@example.com"]

    async def test_keeps_the_content_sealed_and_only_until_it_is_gone(self, sender: Sender) -> None:
        await post(mail())
        waiting = await the_delivery()
        await send_all(sender)
        gone = await the_delivery()

        assert "a secret" not in repr(waiting)
        assert OUTBOX.open(waiting["sealed"]) == mail()
        assert (waiting["state"], waiting["expiresAt"]) == (DeliveryState.PENDING, None)
        assert (gone["state"], gone["sealed"], gone["to"]) == (DeliveryState.HANDED_OVER, None, "user0@example.com")
        assert gone["expiresAt"] > gone["handedOverAt"] >= gone["createdAt"]

    async def test_a_decoy_is_never_sent_and_looks_like_nothing(self, sender: Sender, provider: Provider) -> None:
        await post(mail(), is_decoy=True)

        await send_all(sender)

        row = await the_delivery()
        assert (row["state"], row["to"], row["sealed"]) == (DeliveryState.VOID, None, None)
        assert provider.calls == []

    async def test_moves_on_to_the_newest_key(self) -> None:
        newer = SecretBox([Fernet.generate_key(), Fernet.generate_key()])
        await post(mail())

        assert await encrypt_anew(newer) == (0, 1)
        both = SecretBox([key := Fernet.generate_key()])
        both._all = type(both._all)([*both._all._fernets, *SECRETS._all._fernets])
        assert await encrypt_anew(both) == (1, 0)
        assert await encrypt_anew(both) == (0, 0)
        assert Outbox(SecretBox([key])).open((await the_delivery())["sealed"]) == mail()


class TestAnswers:
    @pytest.mark.parametrize("status", [400, 401, 403, 413])
    async def test_what_is_refused_is_dead_at_once_and_kept(
        self, sender: Sender, provider: Provider, status: int
    ) -> None:
        provider.act = lambda _call, _before: Answer(status, body='{"errors": [{"message": "No"}]}')
        await post(mail())

        await send_all(sender)
        await let_time_pass()
        await send_all(sender)

        row = await the_delivery()
        assert (row["state"], row["attempts"], row["lastError"]) == (DeliveryState.DEAD, 1, f"{status} No")
        assert OUTBOX.open(row["sealed"]) == mail()
        assert len(provider.calls) == 1

    @pytest.mark.parametrize("status", [500, 503, RESET, CUT, HANG])
    async def test_what_fails_is_tried_again_as_the_same_mail(
        self, hasty_sender: Sender, provider: Provider, status: int | str
    ) -> None:
        provider.act = lambda _call, before: Answer(status if len(before) < 2 else 202)
        await post(mail())

        pauses = []
        for _ in range(2):
            await send_all(hasty_sender)
            row = await the_delivery()
            assert (row["state"], row["claim"]) == (DeliveryState.FAILED, None)
            assert row["lastError"]
            pauses.append((row["dueAt"] - now()).total_seconds())
            await let_time_pass()
        await send_all(hasty_sender)

        row = await the_delivery()
        assert (row["state"], row["attempts"], row["lastError"]) == (DeliveryState.HANDED_OVER, 3, None)
        assert 0 < pauses[0] <= 2 < pauses[0] + pauses[1] <= 6
        assert {call.message_id for call in provider.calls} == {f"<{row['_id']}@example.com>"}

    async def test_who_asks_for_silence_gets_it(self, sender: Sender, provider: Provider) -> None:
        provider.act = lambda _call, before: Answer(202) if before else Answer(429, {"Retry-After": "100"})
        await post(mail(1))
        await post(mail(2))

        await send_all(sender)

        assert len(provider.calls) == 1
        first = next(row for row in await deliveries() if row["state"] == DeliveryState.FAILED)
        assert 90 < (first["dueAt"] - now()).total_seconds() <= 100
        sender._silent_until = 0
        await let_time_pass()
        await send_all(sender)
        assert {call.to for call in provider.accepted} == {"user1@example.com", "user2@example.com"}

    async def test_is_given_up_after_a_day(self, sender: Sender, provider: Provider) -> None:
        provider.act = lambda _call, _before: Answer(500)
        await post(mail())
        await collection_of(Delivery).update_many({}, {"$set": {"giveUpAt": now() + timedelta(milliseconds=500)}})

        await send_all(sender)

        assert ((await the_delivery())["state"], TRY_FOR) == (DeliveryState.DEAD, timedelta(hours=24))

    async def test_pauses_grow_to_an_hour(self, sender: Sender) -> None:
        await post(mail())
        row = await the_delivery()
        pauses = []
        for attempts in range(1, 30):
            await collection_of(Delivery).update_one({}, {"$set": {"state": DeliveryState.PENDING}})
            await sender._note_failure(row | {"attempts": attempts, "claim": None}, Undelivered("500"))
            pauses.append(((await the_delivery())["dueAt"] - now()).total_seconds())

        for attempts, pause in enumerate(pauses, 1):
            longest = min(2.0**attempts, 3600)
            assert longest / 2 - 1 < pause <= longest

    async def test_what_a_mailer_never_thought_of_stops_nothing(
        self, provider: Provider, caplog: pytest.LogCaptureFixture
    ) -> None:
        class Broken:
            async def send(self, message: Message, delivery_id: str) -> None:
                raise RuntimeError(message.to, message.text)

        await post(mail())

        await send_all(Sender(Broken(), OUTBOX, nobody))

        row = await the_delivery()
        assert (row["state"], row["lastError"]) == (DeliveryState.FAILED, "RuntimeError")
        (record,) = caplog.records
        assert "user0" not in repr(vars(record)) + str(record.exc_info)


class TestOrder:
    async def test_who_waits_goes_first(self, sender: Sender, provider: Provider) -> None:
        async def render(delivery: Row) -> Message:
            return mail(delivery["ticketId"])

        sender._render = render
        early = now() - timedelta(hours=1)
        rows = [new_delivery(early + timedelta(seconds=n), ticketId=n) for n in range(3)]
        await collection_of(Delivery).insert_many(rows[::-1])
        await collection_of(Delivery).insert_one(new_delivery(now() + timedelta(hours=1), ticketId=4))
        await post(mail(9))

        await send_all(sender)

        assert [call.mail["subject"] for call in provider.calls] == [f"number {n}" for n in (9, 0, 1, 2)]

    async def test_too_late_is_not_sent(self, sender: Sender, provider: Provider) -> None:
        await post(mail(), good_until=now())

        await send_all(sender)

        assert ((await the_delivery())["state"], provider.calls) == (DeliveryState.DEAD, [])

    async def test_without_its_key_it_is_not_sent(self, provider: Provider) -> None:
        mailer = SendGridMailer("key", provider.url, SENDER)
        await post(mail())

        await send_all(Sender(mailer, Outbox(SecretBox([Fernet.generate_key()])), nobody))

        assert ((await the_delivery())["state"], provider.calls) == (DeliveryState.DEAD, [])

    async def test_nobody_left_to_tell(self, sender: Sender, provider: Provider) -> None:
        await collection_of(Delivery).insert_one(new_delivery(now(), ticketId=ObjectId()))

        await send_all(sender)

        assert ((await the_delivery())["state"], provider.calls) == (DeliveryState.SKIPPED, [])

    async def test_addresses_that_bounced_are_left_alone(self, sender: Sender, provider: Provider) -> None:
        await collection_of(Suppression).insert_one({"_id": "user0@example.com", "reason": "bounce", "at": now()})
        await post(Message(to="User0@Example.com", subject="s", text="t", html="h"))
        await post(mail(1))

        await send_all(sender)

        assert [call.to for call in provider.calls] == ["user1@example.com"]
        assert [row["state"] for row in await deliveries()] == [DeliveryState.SKIPPED, DeliveryState.HANDED_OVER]


class TestSideBySide:
    async def test_two_processes_send_each_mail_once(self, provider: Provider) -> None:
        mailers = [SendGridMailer("key", provider.url, SENDER) for _ in range(2)]
        senders = [Sender(mailer, OUTBOX, nobody) for mailer in mailers]
        for number in range(60):
            await post(mail(number))

        tasks = [asyncio.create_task(sender.run()) for sender in senders]
        await provider.until(lambda p: len(p.accepted) >= 60)
        await asyncio.gather(*(sender.stop() for sender in senders))
        await asyncio.wait_for(asyncio.gather(*tasks), 10)

        assert sorted(Counter(call.to for call in provider.calls).values()) == [1] * 60
        assert {row["state"] for row in await deliveries()} == {DeliveryState.HANDED_OVER}

    async def test_a_queue_is_taken_with_rests(
        self, sender: Sender, provider: Provider, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Which end here with the sender; what goes between two of them is as much as goes side by side."""
        monkeypatch.setattr(sending, "REST_S", 1_000)
        for number in range(SIDE_BY_SIDE + 5):
            await post(mail(number))

        running = asyncio.create_task(sender.run())
        await provider.until(lambda p: len(p.accepted) >= SIDE_BY_SIDE)
        await sender.stop()
        await running

        states = Counter(row["state"] for row in await deliveries())
        assert states == {DeliveryState.HANDED_OVER: SIDE_BY_SIDE, DeliveryState.PENDING: 5}

    async def test_many_cost_few_commands(self, provider: Provider) -> None:
        sender = Sender(SendGridMailer("key", provider.url, SENDER), OUTBOX, nobody)
        await collection_of(Suppression).insert_one({"_id": "user3@example.com", "reason": "bounce", "at": now()})
        for number in range(SIDE_BY_SIDE):
            await post(mail(number))
        before = len(COMMANDS.names)

        claimed = await sender.claim(SIDE_BY_SIDE)
        assert len(COMMANDS.names) - before == 3
        await asyncio.gather(*(sender.deliver(row) for row in claimed))

        # One that says to whom they go, one that asks who may be written to, and at most one for each end.
        assert len(COMMANDS.names) - before <= 3 + 2 + SIDE_BY_SIDE
        skipped = [row["to"] for row in await deliveries() if row["state"] == DeliveryState.SKIPPED]
        assert skipped == ["user3@example.com"]
        assert len(provider.accepted) == SIDE_BY_SIDE - 1

    async def test_who_died_is_replaced(self, sender: Sender, provider: Provider) -> None:
        await post(mail())
        (claimed,) = await sender.claim(2)

        assert await sender.claim(2) == []
        assert timedelta() < claimed["dueAt"] - now() <= CLAIM
        await let_time_pass()
        await send_all(sender)
        # The dead one was only slow: what it says now is about a claim that is not its own.
        await sender._note_failure(claimed, Undelivered("late", is_final=True))

        assert (await the_delivery())["state"] == DeliveryState.HANDED_OVER
        assert (await the_delivery())["attempts"] == 2

    async def test_what_the_provider_said_first_stays(self, sender: Sender, provider: Provider) -> None:
        await post(mail())
        (claimed,) = await sender.claim(1)
        await collection_of(Delivery).update_one({}, {"$set": {"state": DeliveryState.DELIVERED}})

        await sender.deliver(claimed)

        assert (await the_delivery())["state"] == DeliveryState.DELIVERED

    async def test_the_end_waits_for_what_is_under_way(self, sender: Sender, provider: Provider) -> None:
        await post(mail(1))
        running = asyncio.create_task(sender.run())
        await provider.until(lambda p: len(p.calls) == 1)
        await asyncio.gather(sender.stop(), running)
        await post(mail(2))

        assert [row["state"] for row in await deliveries()] == [DeliveryState.HANDED_OVER, DeliveryState.PENDING]

    async def test_a_storm_loses_nothing(
        self, sender: Sender, provider: Provider, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(sending, "FIRST_PAUSE_S", 0.001)
        monkeypatch.setattr(sending, "LONGEST_PAUSE_S", 0.01)
        monkeypatch.setattr(sending, "POLL_S", 0.01)
        chance = random.Random(7)
        weather: list[int | str] = [*[202] * 6, 500, 503, 429, RESET, CUT]
        refused = {f"user{number}@example.com" for number in range(0, 80, 10)}

        def act(call: Call, _before: list[Call]) -> Answer:
            if call.to in refused:
                return Answer(400)
            status = chance.choice(weather)
            return Answer(status, {"Retry-After": "0"} if status == 429 else {})

        provider.act = act
        for number in range(80):
            await post(mail(number))

        running = asyncio.create_task(sender.run())
        await provider.until(lambda p: len(p.accepted) >= 72)
        await sender.stop()
        await asyncio.wait_for(running, 10)

        assert Counter(call.to for call in provider.accepted) == {
            f"user{n}@example.com": 1 for n in range(80) if f"user{n}@example.com" not in refused
        }
        states = Counter(row["state"] for row in await deliveries())
        assert states == {DeliveryState.HANDED_OVER: 72, DeliveryState.DEAD: 8}


async def test_metrics_say_how_long_the_queue_is_and_how_old(hasty_sender: Sender, provider: Provider) -> None:
    provider.act = lambda call, _before: Answer(400 if call.to == "user0@example.com" else HANG)
    await post(mail(0))
    await send_all(hasty_sender)
    rows = [new_delivery(now() + timedelta(hours=1)) | {"createdAt": now() - timedelta(minutes=n)} for n in (1, 5)]
    await collection_of(Delivery).insert_many(rows)
    running = asyncio.create_task(hasty_sender.run())

    await eventually(lambda: REGISTRY.get_sample_value("mail_deliveries", {"state": "pending"}) == 2)
    await hasty_sender.stop()
    await running

    assert REGISTRY.get_sample_value("mail_deliveries", {"state": "dead"}) == 1
    assert 290 < (REGISTRY.get_sample_value("mail_oldest_waiting_seconds") or 0) < 400
