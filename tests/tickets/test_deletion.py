"""Deleting and restoring tickets: over REST, on a real database."""

from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
from bson import ObjectId

from app.platform.clock import now
from app.platform.middleware import MAX_BODY_BYTES
from app.platform.mongo import collection_of
from app.tickets.documents import Ticket
from tests.callers import Caller, Callers
from tests.factories.tickets import events_of, open_ticket
from tests.tickets.refusals import refused


class TestDeleteAndRestore:
    async def test_deleted_is_gone_from_everywhere(self, callers: Callers) -> None:
        ticket = await open_ticket(callers.customer)
        path = f"/api/tickets/{ticket['id']}"
        assert (await callers.admin.delete(path, headers={"If-Match": '"1"'})).status_code == 204

        for caller in (callers.customer, callers.agent, callers.admin):
            assert (await caller.get(path)).status_code == 404
            assert (await caller.get(f"{path}/events")).status_code == 404
            assert (await caller.get("/api/tickets")).json()["items"] == []
            assert (await caller.patch(path, json={"title": "x"})).status_code == 404
        assert (await callers.admin.delete(path)).status_code == 404
        assert [event["type"] for event in await events_of(ticket["id"])] == ["ticket.created", "ticket.deleted"]

    async def test_restored_is_as_it_was(self, callers: Callers) -> None:
        ticket = await open_ticket(callers.customer)
        path = f"/api/tickets/{ticket['id']}"
        await callers.admin.delete(path)
        answer = await callers.admin.post(f"{path}/restore")

        assert (answer.status_code, answer.headers["etag"]) == (200, '"3"')
        moved = {"version", "updatedAt"}
        assert {k: v for k, v in answer.json().items() if k not in moved} == {
            k: v for k, v in ticket.items() if k not in moved
        }
        assert (await callers.customer.get(path)).json() == answer.json()
        types = [event["type"] for event in await events_of(ticket["id"])]
        assert types == ["ticket.created", "ticket.deleted", "ticket.restored"]

    async def test_only_admins_delete(self, callers: Callers) -> None:
        ticket = await open_ticket(callers.customer)
        path = f"/api/tickets/{ticket['id']}"

        await refused(await callers.agent.delete(path), 403, "forbidden", ticket["id"])
        await refused(await callers.customer.delete(path), 403, "forbidden", ticket["id"])
        await refused(await callers.other_customer.delete(path), 404, "not_found", ticket["id"])

    async def test_only_admins_restore(self, callers: Callers) -> None:
        ticket = await open_ticket(callers.customer)
        path = f"/api/tickets/{ticket['id']}/restore"
        await refused(await callers.agent.post(path), 403, "forbidden", ticket["id"])

        await callers.admin.delete(f"/api/tickets/{ticket['id']}")

        await refused(await callers.agent.post(path), 404, "not_found", ticket["id"], 2)
        await refused(await callers.customer.post(path), 404, "not_found", ticket["id"], 2)

    @pytest.mark.parametrize(
        ("content", "media_type", "status", "code"),
        [
            (b'{"foo": 1}', "application/json", 422, "invalid_input"),
            (b"{", "application/json", 400, "malformed_json"),
            (b"[]", "application/json", 400, "malformed_json"),
            (b"<foo/>", "text/xml", 415, "unsupported_media_type"),
            (b" " * MAX_BODY_BYTES + b"{}", "application/json", 413, "payload_too_large"),
        ],
    )
    async def test_restoring_takes_no_fields(
        self, admin: Caller, content: bytes, media_type: str, status: int, code: str
    ) -> None:
        async def chunks() -> AsyncIterator[bytes]:
            for at in range(0, len(content), 65_536):
                yield content[at : at + 65_536]

        ticket = await open_ticket(admin)
        path = f"/api/tickets/{ticket['id']}"
        await admin.delete(path)

        answer = await admin.post(f"{path}/restore", content=chunks(), headers={"Content-Type": media_type})
        await refused(answer, status, code, ticket["id"], 2)

    async def test_who_may_not_restore_hears_nothing_of_the_body(self, callers: Callers) -> None:
        ticket = await open_ticket(callers.customer)
        path = f"/api/tickets/{ticket['id']}/restore"

        for caller, status in ((callers.other_customer, 404), (callers.agent, 403), (callers.admin, 422)):
            assert (await caller.post(path, json={"foo": 1})).status_code == status

    async def test_restored_with_a_key_it_is_restored_once(self, admin: Caller) -> None:
        ticket = await open_ticket(admin)
        path, key = f"/api/tickets/{ticket['id']}", {"Idempotency-Key": "back"}
        await admin.delete(path)

        first = await admin.post(f"{path}/restore", headers=key)
        again = await admin.post(f"{path}/restore", json={}, headers=key)
        other = await admin.post(f"{path}/restore", json={"foo": 1}, headers=key)

        assert (first.status_code, again.json()) == (200, first.json())
        assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")

    async def test_another_version_is_not_deleted(self, admin: Caller) -> None:
        ticket = await open_ticket(admin)
        answer = await admin.delete(f"/api/tickets/{ticket['id']}", headers={"If-Match": '"2"'})

        await refused(answer, 412, "version_conflict", ticket["id"])

    async def test_what_is_not_deleted_is_not_restored(self, admin: Caller) -> None:
        ticket = await open_ticket(admin)

        await refused(await admin.post(f"/api/tickets/{ticket['id']}/restore"), 409, "not_deleted", ticket["id"])

    async def test_nothing_is_restored_after_30_days(self, admin: Caller) -> None:
        ticket = await open_ticket(admin)
        await admin.delete(f"/api/tickets/{ticket['id']}")
        long_ago = {"$set": {"deletedAt": now() - timedelta(days=30, seconds=1)}}
        await collection_of(Ticket).update_one({"_id": ObjectId(ticket["id"])}, long_ago)

        answer = await admin.post(f"/api/tickets/{ticket['id']}/restore")
        await refused(answer, 409, "restore_window_over", ticket["id"], 2)
