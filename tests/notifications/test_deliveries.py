"""What Admins see of mail, and what they can do about it."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from bson import ObjectId

from app.mail.documents import Delivery, DeliveryState, Suppression
from app.mail.outbox import new_delivery
from app.notifications.schemas import DeliveryOut
from app.platform.clock import now
from app.platform.mongo import collection_of
from app.platform.wire import Row, instant
from tests.callers import Caller, Callers

AT = now() - timedelta(days=2)
LATER = timedelta(seconds=10)


def delivery(state: str = "dead", **fields: Any) -> Row:
    about = {"userId": ObjectId(), "ticketId": ObjectId(), "to": "carol@example.com", "subject": "[#1] No paper"}
    return new_delivery(AT, state=state, sealed="secret", **about) | fields


async def stored(*rows: Row) -> Sequence[Row]:
    await collection_of(Delivery).insert_many(rows)
    return rows


async def found(delivery_id: ObjectId) -> Row:
    row = await collection_of(Delivery).find_one({"_id": delivery_id})
    assert row is not None
    return row


async def listed(admin: Caller, path: str, key: str = "id") -> list[str]:
    """All pages of the list, of two each."""
    values: list[str] = []
    cursor = ""
    while True:
        answer = await admin.get(f"{path}{'&' if '?' in path else '?'}limit=2{cursor}")
        assert answer.status_code == 200, answer.text
        values += [item[key] for item in answer.json()["items"]]
        following = answer.json()["nextCursor"]
        assert ("Link" in answer.headers) == (following is not None)
        if following is None:
            return values
        cursor = f"&cursor={following}"


class TestList:
    async def test_shows_fates_newest_first_and_never_contents(self, admin: Caller) -> None:
        rows = await stored(*(delivery(state) for state in DeliveryState), delivery("pending", to=None, attempts=3))
        shown = [row for row in reversed(rows) if row["state"] != "void"]

        answer = await admin.get("/api/deliveries")

        items = answer.json()["items"]
        assert [item["id"] for item in items] == [str(row["_id"]) for row in shown]
        assert items[0] == {
            "id": str(rows[-1]["_id"]),
            "state": "pending",
            "to": None,
            "userId": str(rows[-1]["userId"]),
            "ticketId": str(rows[-1]["ticketId"]),
            "subject": "[#1] No paper",
            "attempts": 3,
            "createdAt": instant(AT),
            "dueAt": instant(AT),
            "handedOverAt": None,
            "lastError": None,
        }
        assert {item["state"] for item in items if item["dueAt"]} == {"pending", "failed"}
        assert all(DeliveryOut.parse(item) for item in items)
        assert "secret" not in answer.text

    async def test_is_filtered_and_paged(self, admin: Caller) -> None:
        ticket_id = ObjectId()
        rows = await stored(*(delivery(state, ticketId=ticket_id) for state in ["dead", "bounced", "void"] * 3))
        await stored(*(delivery() for _ in range(3)))
        ids = {state: [str(row["_id"]) for row in reversed(rows) if row["state"] == state] for state in DeliveryState}

        assert len(await listed(admin, "/api/deliveries")) == 9
        assert await listed(admin, f"/api/deliveries?ticket={ticket_id}&state=dead") == ids[DeliveryState.DEAD]
        assert await listed(admin, "/api/deliveries?state=bounced") == ids[DeliveryState.BOUNCED]
        assert len(await listed(admin, f"/api/deliveries?ticket={str(ticket_id).upper()}")) == 6
        cursor = (await admin.get("/api/deliveries?limit=1")).json()["nextCursor"]
        for query, code in {
            "state=void": "invalid_input",
            "state=Dead": "invalid_input",
            "ticket=1": "invalid_input",
            "to=carol": "invalid_input",
            "state=dead&state=dead": "invalid_input",
            f"state=dead&cursor={cursor}": "invalid_cursor",
        }.items():
            answer = await admin.get(f"/api/deliveries?{query}")
            assert answer.json()["code"] == code, query


class TestRetry:
    async def test_makes_a_dead_mail_wait_as_a_new_one(self, admin: Caller) -> None:
        (row,) = await stored(delivery(attempts=31, claim="x", lastError="503", expiresAt=AT))

        answer = await admin.post(f"/api/deliveries/{row['_id']}/retry")

        after = await found(row["_id"])
        assert answer.status_code == 200, answer.text
        assert (answer.json()["state"], answer.json()["attempts"]) == ("pending", 0)
        assert answer.json()["dueAt"] == instant(after["dueAt"])
        assert now() - LATER < after["dueAt"] <= now()
        changed = {"dueAt": after["dueAt"], "giveUpAt": after["dueAt"] + timedelta(days=1)}
        assert after == row | changed | {"state": "pending", "attempts": 0, "claim": None, "expiresAt": None}

    async def test_is_refused_to_what_is_not_dead(self, admin: Caller) -> None:
        rows = await stored(*(delivery(state) for state in DeliveryState if state is not DeliveryState.DEAD))

        for row in rows:
            answer = await admin.post(f"/api/deliveries/{row['_id']}/retry")
            code = "404 not_found" if row["state"] == DeliveryState.VOID else "409 not_dead"
            assert f"{answer.status_code} {answer.json()['code']}" == code
            assert await found(row["_id"]) == row
        for unknown in (ObjectId(), "x"):
            assert (await admin.post(f"/api/deliveries/{unknown}/retry")).status_code == 404

    async def test_takes_no_fields(self, admin: Caller) -> None:
        (row,) = await stored(delivery())

        for path in ("/api/deliveries/retry", f"/api/deliveries/{row['_id']}/retry"):
            for content, media_type, status in (
                (b'{"foo": 1}', "application/json", 422),
                (b"{", "application/json", 400),
                (b"<foo/>", "text/xml", 415),
            ):
                answer = await admin.post(path, content=content, headers={"Content-Type": media_type})
                assert answer.status_code == status, (path, content)
        assert await found(row["_id"]) == row
        assert (await admin.post("/api/deliveries/retry", json={})).json() == {"retried": 1}

    async def test_happens_once_per_key(self, admin: Caller) -> None:
        (row,) = await stored(delivery())
        path, headers = f"/api/deliveries/{row['_id']}/retry", {"Idempotency-Key": "again"}
        first = await admin.post(path, headers=headers)
        await collection_of(Delivery).update_one({"_id": row["_id"]}, {"$set": {"state": "dead"}})

        second = await admin.post(path, headers=headers)

        assert second.headers["Idempotency-Replayed"] == "true"
        assert (second.status_code, second.json()) == (200, first.json())
        assert (await found(row["_id"]))["state"] == "dead"

    async def test_of_all_is_of_all_that_are_dead_and_once_per_key(self, admin: Caller) -> None:
        rows = await stored(*(delivery(state) for state in [*DeliveryState, "dead", "dead"]))
        headers = {"Idempotency-Key": "all"}

        answers = [await admin.post("/api/deliveries/retry", headers=headers) for _ in range(2)]
        last = await admin.post("/api/deliveries/retry")

        assert [answer.json() for answer in answers] == [{"retried": 3}] * 2
        assert answers[1].headers["Idempotency-Replayed"] == "true"
        assert last.json() == {"retried": 0}
        states = [(await found(row["_id"]))["state"] for row in rows]
        assert states == ["pending" if row["state"] == "dead" else row["state"] for row in rows]


class TestSuppressions:
    async def test_are_listed_in_their_order_and_taken_back(self, admin: Caller) -> None:
        addresses = [f"{name}@example.com" for name in ("a/b", "bob", "carol+x", "dörte", "eve")]
        await collection_of(Suppression).insert_many(
            [{"_id": address, "reason": "bounce", "at": AT} for address in reversed(addresses)]
        )

        assert await listed(admin, "/api/mail-suppressions", "address") == addresses
        assert (await admin.get("/api/mail-suppressions")).json()["items"][1] == {
            "address": "bob@example.com",
            "reason": "bounce",
            "at": instant(AT),
        }
        for cursor in ("x", "%C3%A9", "Ym9i%0A", "/w=="):
            answer = await admin.get(f"/api/mail-suppressions?cursor={cursor}")
            assert (answer.status_code, answer.json()["code"]) == (400, "invalid_cursor"), cursor
        for address in ("a%2Fb@example.com", "CAROL%2Bx@Example.com"):
            assert (await admin.delete(f"/api/mail-suppressions/{address}")).status_code == 204
            assert (await admin.delete(f"/api/mail-suppressions/{address}")).status_code == 404
        assert await listed(admin, "/api/mail-suppressions", "address") == [addresses[n] for n in (1, 3, 4)]


async def test_keys_need_the_scope_for_it(callers: Callers) -> None:
    admin = callers.admin
    for scope, status in (("tickets", 403), ("admin", 200)):
        made = await admin.post("/api/api-keys", json={"name": "robot", "scopes": [scope]})
        headers = {"Authorization": f"Bearer {made.json()['key']}"}
        for method, path in (("GET", "deliveries"), ("POST", "deliveries/retry"), ("GET", "mail-suppressions")):
            answer = await callers.nobody.request(method, f"/api/{path}", headers=headers)
            assert answer.status_code == status, path
