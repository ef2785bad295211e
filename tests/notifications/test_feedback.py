"""What SendGrid says became of mails: believed when it is signed, and the same in whichever order it comes."""

import base64
import itertools
import json
from datetime import timedelta
from typing import Any

import pytest
from bson import ObjectId
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from httpx import AsyncClient, Response

from app.mail.documents import Delivery, Suppression
from app.mail.outbox import new_delivery
from app.platform.clock import now
from app.platform.mongo import collection_of
from app.platform.wire import Row
from tests.conftest import COMMANDS, Started

PATH = "/api/sendgrid/events"
SIGNATURE, TIMESTAMP = "X-Twilio-Email-Event-Webhook-Signature", "X-Twilio-Email-Event-Webhook-Timestamp"
SENDGRID, SOMEBODY = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
Event = dict[str, Any]


@pytest.fixture(autouse=True)
def _key(app: Started, monkeypatch: pytest.MonkeyPatch) -> None:
    der = SENDGRID.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    monkeypatch.setitem(app.state, "webhook_key", base64.b64encode(der).decode())


def signed(body: bytes, age_s: float = 0, key: ec.EllipticCurvePrivateKey = SENDGRID) -> dict[str, str]:
    timestamp = str(int(now().timestamp() - age_s))
    signature = key.sign(timestamp.encode() + body, ec.ECDSA(hashes.SHA256()))
    return {SIGNATURE: base64.b64encode(signature).decode(), TIMESTAMP: timestamp}


async def tell(client: AsyncClient, *events: object) -> Response:
    body = json.dumps(events).encode()
    return await client.post(PATH, content=body, headers=signed(body))


async def handed_over(**fields: Any) -> Row:
    sent = {"state": "handed_over", "sealed": "secret", "to": "Carol@example.com", "expiresAt": now()}
    row = new_delivery(now(), **sent | fields)
    await collection_of(Delivery).insert_one(row)
    return row


def about(row: Row, event: str, **more: Any) -> Event:
    return {"event": event, "delivery": str(row["_id"]), "email": "carol@example.com", **more}


async def fate(row: Row) -> tuple[str, str | None, str | None]:
    """State, error and what is left of the content."""
    after = await collection_of(Delivery).find_one({"_id": row["_id"]})
    assert after is not None
    return after["state"], after["lastError"], after["sealed"]


async def everything() -> list[list[Row]]:
    return [await collection_of(model).find().sort("_id", 1).to_list() for model in (Delivery, Suppression)]


async def suppressed() -> dict[str, str]:
    return {row["_id"]: row["reason"] async for row in collection_of(Suppression).find()}


class TestSignature:
    async def test_of_anybody_else_is_refused(
        self, app: Started, nobody: AsyncClient, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        row = await handed_over()
        body = json.dumps([about(row, "bounce")]).encode()
        good, before = signed(body), await everything()
        attempts: dict[str, tuple[bytes, dict[str, str]]] = {
            "none": (body, {}),
            "no timestamp": (body, {SIGNATURE: good[SIGNATURE]}),
            "another key's": (body, signed(body, key=SOMEBODY)),
            "another body's": (body + b" ", good),
            "another time's": (body, good | {TIMESTAMP: str(int(good[TIMESTAMP]) - 1)}),
            "too old": (body, signed(body, age_s=timedelta(hours=25).total_seconds())),
            "of the future": (body, signed(body, age_s=-600)),
            "not base64": (body, good | {SIGNATURE: "é!"}),
            "cut off": (body, good | {SIGNATURE: good[SIGNATURE][:-1]}),
            "empty": (body, good | {SIGNATURE: ""}),
            "no number": (body, good | {TIMESTAMP: "1e9"}),
            "a long number": (body, good | {TIMESTAMP: "9" * 5000}),
            "no text": (b"\xff", signed(b"\xff")),
        }
        for what, (sent, headers) in attempts.items():
            raw = {name.encode(): value.encode() for name, value in headers.items()}
            answer = await nobody.post(PATH, content=sent, headers=raw)
            assert (answer.status_code, answer.json()["code"]) == (403, "invalid_signature"), what
        monkeypatch.setitem(app.state, "webhook_key", None)
        assert (await nobody.post(PATH, content=body, headers=good)).status_code == 403
        assert await everything() == before

    async def test_is_good_for_a_day_and_a_replay_changes_nothing(self, nobody: AsyncClient) -> None:
        row = await handed_over()
        body = json.dumps([about(row, "bounce", reason="550 no such user"), about(row, "spamreport")]).encode()
        headers = signed(body, age_s=timedelta(hours=23).total_seconds())

        first = await nobody.post(PATH, content=body, headers=headers)
        after = await everything()
        second = await nobody.post(PATH, content=body, headers=headers)

        assert (first.status_code, second.status_code, second.content) == (204, 204, b"")
        assert await everything() == after
        assert (await fate(row), await suppressed()) == (
            ("bounced", "550 no such user", None),
            {"carol@example.com": "complaint"},
        )


class TestFates:
    @pytest.mark.parametrize(
        ("event", "expected", "address"),
        [
            ({"event": "delivered"}, ("delivered", None, None), {}),
            ({"event": "bounce", "type": "bounce", "reason": "x" * 999}, ("bounced", "x" * 300, None), "bounce"),
            ({"event": "bounce", "type": "blocked", "reason": "later"}, ("bounced", "later", None), {}),
            ({"event": "bounce", "reason": 5}, ("bounced", None, None), "bounce"),
            ({"event": "dropped", "reason": "Bounced Address"}, ("dropped", "Bounced Address", None), "bounce"),
            (
                {"event": "dropped", "reason": "Spam Reporting Address"},
                ("dropped", "Spam Reporting Address", None),
                "complaint",
            ),
            ({"event": "dropped", "reason": "Invalid"}, ("dropped", "Invalid", None), {}),
            ({"event": "spamreport"}, ("handed_over", None, "secret"), "complaint"),
            ({"event": "open"}, ("handed_over", None, "secret"), {}),
        ],
    )
    async def test_are_noted(self, nobody: AsyncClient, event: Event, expected: tuple[Any, ...], address: Any) -> None:
        row = await handed_over()

        answer = await tell(nobody, about(row, **event))

        assert answer.status_code == 204
        assert await fate(row) == expected
        assert await suppressed() == ({"carol@example.com": address} if address else {})
        after = await collection_of(Delivery).find_one({"_id": row["_id"]})
        assert after is not None
        if expected[0] != "handed_over":
            assert after["expiresAt"] - now() > timedelta(days=29)

    async def test_order_and_number_do_not_matter(self, nobody: AsyncClient) -> None:
        words: list[Event] = [
            {"event": "delivered"},
            {"event": "bounce", "reason": "full"},
            {"event": "dropped", "reason": "Bounced Address"},
            {"event": "spamreport"},
        ]
        for chosen in itertools.chain(itertools.combinations(words, 2), [words]):
            ends = set()
            for order in itertools.permutations(chosen):
                row = await handed_over()
                events = [about(row, **word) for word in order]
                for batch in [events[:1], events[1:], events[:1]]:
                    await tell(nobody, *batch)
                ends.add((await fate(row), tuple((await suppressed()).items())))
                await collection_of(Suppression).delete_many({})
            assert len(ends) == 1, chosen
        assert ends == {(("bounced", "full", None), (("carol@example.com", "complaint"),))}

    async def test_of_others_and_malformed_ones_are_passed_over(self, nobody: AsyncClient) -> None:
        row, void = await handed_over(), await handed_over(state="void", to=None)
        before = await everything()
        wrong: list[object] = [
            about(row, "bounce", email="eve@example.com"),
            about(row, "bounce", email=None),
            about(row, "bounce", delivery=str(ObjectId())),
            about(row, "bounce", delivery={"$ne": None}),
            about(row, "bounce", delivery="x" * 12),
            about(void, "bounce"),
            about(row, "bounce") | {"event": ["bounce"]},
            {"event": "bounce"},
            *([], None, "bounce", 7),
        ]
        for events in (wrong, []):
            assert (await tell(nobody, *events)).status_code == 204
        for body in (b"", b"{", b"{}", b"null", b"[" * 5000):
            answer = await nobody.post(PATH, content=body, headers=signed(body))
            assert answer.status_code == 204, body
        assert await everything() == before

        # A good one among them counts, and of many that are good each costs no command of its own.
        rows = [row, *[await handed_over() for _ in range(20)]]
        started = len(COMMANDS.names)
        await tell(nobody, *wrong, *(about(one, "bounce") for one in rows))
        assert len(COMMANDS.names) - started <= 3
        assert {await fate(one) for one in rows} == {("bounced", None, None)}
