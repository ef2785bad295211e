"""Who may do what, as one written table over every operation of the OpenAPI document.

The object is a ticket of `customer`'s, or `customer`'s account. After each refusal nothing may have changed.
"""

import asyncio
import re
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
from bson import ObjectId
from httpx import AsyncClient, Response

from app.analytics.backfill import fill_up
from app.events.log import Event
from app.mail.documents import Delivery, DeliveryState, Suppression
from app.mail.outbox import new_delivery
from app.main import app as application
from app.notifications.documents import NotificationPreferences
from app.platform.clock import now
from app.platform.idempotency import IdempotencyRow
from app.platform.mongo import collection_of
from app.platform.wire import Row as StoredRow
from app.tickets.documents import Ticket
from tests.callers import Callers
from tests.factories.accounts import PASSWORD, add_api_key
from tests.factories.tickets import open_ticket

KINDS = ("nobody", "customer", "other customer", "agent", "admin")
Expected = int | str
NO_TOKEN, FORBIDDEN, HIDDEN = "401 unauthenticated", "403 forbidden", "404 not_found"
# With a right token and a wrong password: a 401 that is about the password.
WRONG = "401 invalid_credentials"


class Objects(NamedTuple):
    ticket_id: str
    deleted_id: str
    user_id: str
    session_id: str
    key_id: str
    delivery_id: str


Body = Callable[[Objects], dict[str, Any]]


class Row(NamedTuple):
    """One operation: what is sent, and what each kind of caller is answered."""

    operation: str
    answers: tuple[Expected, Expected, Expected, Expected, Expected]
    body: Body | None = None
    note: str = ""

    def __str__(self) -> str:
        return f"{self.operation} {self.note}".strip()


TICKET = {"title": "Printer down", "description": "It stopped"}
SIGN_IN = {"username": "customer", "password": PASSWORD}
ACCOUNT = {"username": "somebody", "password": "a long passphrase"}
ADDRESS = "gone@example.com"

# fmt: off
TABLE = [
    #    operation                                 nobody    customer   other      agent      admin
    Row("GET /api/tickets",                       (NO_TOKEN, 200,       200,       200,       200)),
    Row("POST /api/tickets",                      (NO_TOKEN, 201,       201,       201,       201), lambda _: TICKET),
    Row("POST /api/tickets",                      (NO_TOKEN, 201,       FORBIDDEN, 201,       201),
        lambda o: {**TICKET, "requester": o.user_id}, "for the customer"),
    Row("POST /api/tickets",                      (NO_TOKEN, FORBIDDEN, FORBIDDEN, 201,       201),
        lambda _: {**TICKET, "assignedTo": None}, "with an assignee"),
    Row("POST /api/tickets/bulk",                 (NO_TOKEN, FORBIDDEN, FORBIDDEN, 200,       200),
        lambda o: {"ids": [o.ticket_id], "patch": {"priority": "High"}}),
    Row("GET /api/tickets/{ticketId}",           (NO_TOKEN, 200,       HIDDEN,    200,       200)),
    Row("PATCH /api/tickets/{ticketId}",         (NO_TOKEN, 200,       HIDDEN,    200,       200),
        lambda _: {"title": "Printer on fire"}, "title"),
    Row("PATCH /api/tickets/{ticketId}",         (NO_TOKEN, 200,       HIDDEN,    200,       200),
        lambda _: {"status": "Closed"}, "to Closed"),
    Row("PATCH /api/tickets/{ticketId}",         (NO_TOKEN, FORBIDDEN, HIDDEN,    200,       200),
        lambda _: {"status": "In Progress"}, "to In Progress"),
    Row("PATCH /api/tickets/{ticketId}",         (NO_TOKEN, FORBIDDEN, HIDDEN,    200,       200),
        lambda _: {"status": "Resolved"}, "to Resolved"),
    Row("PATCH /api/tickets/{ticketId}",         (NO_TOKEN, FORBIDDEN, HIDDEN,    200,       200),
        lambda _: {"title": "Printer on fire", "priority": "High"}, "priority beside a title"),
    Row("PATCH /api/tickets/{ticketId}",         (NO_TOKEN, FORBIDDEN, HIDDEN,    200,       200),
        lambda o: {"requester": o.user_id, "tags": ["x"], "waitingOn": "customer"}, "the rest"),
    Row("DELETE /api/tickets/{ticketId}",        (NO_TOKEN, FORBIDDEN, HIDDEN,    FORBIDDEN, 204)),
    Row("POST /api/tickets/{ticketId}/restore",  (NO_TOKEN, FORBIDDEN, HIDDEN,    FORBIDDEN, "409 not_deleted")),
    Row("POST /api/tickets/{deleted_id}/restore", (NO_TOKEN, HIDDEN,    HIDDEN,    HIDDEN,    200), None, "deleted"),
    Row("GET /api/tickets/{deleted_id}",          (NO_TOKEN, HIDDEN,    HIDDEN,    HIDDEN,    HIDDEN), None, "deleted"),
    Row("PATCH /api/tickets/{deleted_id}",        (NO_TOKEN, HIDDEN,    HIDDEN,    HIDDEN,    HIDDEN),
        lambda _: {"title": "Printer on fire"}, "deleted"),
    Row("DELETE /api/tickets/{deleted_id}",       (NO_TOKEN, HIDDEN,    HIDDEN,    HIDDEN,    HIDDEN), None, "deleted"),
    Row("GET /api/tickets/{deleted_id}/events",   (NO_TOKEN, HIDDEN,    HIDDEN,    HIDDEN,    HIDDEN), None, "deleted"),
    Row("GET /api/tickets/{ticketId}/events",    (NO_TOKEN, 200,       HIDDEN,    200,       200)),
    Row("GET /api/analytics/agent-performance",        (NO_TOKEN, FORBIDDEN, FORBIDDEN, 200,       200)),
    Row("GET /api/analytics/resolution-time",          (NO_TOKEN, FORBIDDEN, FORBIDDEN, 200,       200)),
    Row("GET /api/analytics/first-response-time",      (NO_TOKEN, FORBIDDEN, FORBIDDEN, 200,       200)),
    Row("GET /api/analytics/volume",                   (NO_TOKEN, FORBIDDEN, FORBIDDEN, 200,       200)),
    Row("GET /api/analytics/backlog",                  (NO_TOKEN, FORBIDDEN, FORBIDDEN, 200,       200)),
    Row("GET /api/analytics/sla",                      (NO_TOKEN, FORBIDDEN, FORBIDDEN, 200,       200)),
    Row("GET /api/analytics/satisfaction",             (NO_TOKEN, FORBIDDEN, FORBIDDEN, 200,       200)),
    Row("GET /api/analytics/tags",                     (NO_TOKEN, FORBIDDEN, FORBIDDEN, 200,       200)),
    Row("GET /api/analytics/overview",                 (NO_TOKEN, FORBIDDEN, FORBIDDEN, 200,       200)),
    Row("POST /api/register",                     (201,      201,       201,       201,       201), lambda _: ACCOUNT),
    Row("POST /api/login",                        (200,      200,       200,       200,       200), lambda _: SIGN_IN),
    Row("POST /api/token/refresh",                (("401 invalid_refresh_token",) * 5),
        lambda _: {"refreshToken": "rt_of_nobody"}),
    Row("POST /api/logout",                       (NO_TOKEN, 204,       204,       204,       204)),
    Row("GET /api/me",                            (NO_TOKEN, 200,       200,       200,       200)),
    Row("PATCH /api/me",                          (NO_TOKEN, 200,       200,       200,       200),
        lambda _: {"name": "Carol"}),
    Row("PATCH /api/me",                          (NO_TOKEN, *(("422 invalid_input",) * 4)),
        lambda _: {"role": "Admin"}, "role"),
    Row("POST /api/me/password",                  (NO_TOKEN, WRONG,     WRONG,     WRONG,     WRONG),
        lambda _: {"currentPassword": "not this", "newPassword": "a long passphrase"}),
    Row("POST /api/password/forgot",              (202,      202,       202,       202,       202),
        lambda _: {"username": "customer"}),
    Row("POST /api/password/reset",               (("400 invalid_reset_token",) * 5),
        lambda _: {"token": "pr_of_nobody", "password": "a long passphrase"}),
    Row("POST /api/login/mfa",                    (("401 invalid_mfa_token",) * 5),
        lambda _: {"mfaToken": "of nobody", "otp": "123456"}),
    Row("POST /api/me/reauthenticate",            (NO_TOKEN, 200,       200,       200,       200),
        lambda _: {"password": PASSWORD}),
    Row("GET /api/me/sessions",                   (NO_TOKEN, 200,       200,       200,       200)),
    Row("DELETE /api/me/sessions",                (NO_TOKEN, 204,       204,       204,       204)),
    Row("DELETE /api/me/sessions/{sessionId}",    (NO_TOKEN, 204,       HIDDEN,    HIDDEN,    HIDDEN)),
    Row("POST /api/me/mfa/setup",                 (NO_TOKEN, 200,       200,       200,       200)),
    Row("POST /api/me/mfa/enable",                (NO_TOKEN, *(("409 mfa_not_set_up",) * 4)),
        lambda _: {"otp": "123456"}),
    Row("POST /api/me/mfa/disable",               (NO_TOKEN, *(("409 mfa_not_on",) * 4)),
        lambda _: {"password": PASSWORD, "otp": "123456"}),
    Row("POST /api/me/mfa/recovery-codes",        (NO_TOKEN, *(("409 mfa_not_on",) * 4))),
    Row("DELETE /api/users/{userId}/mfa",         (NO_TOKEN, FORBIDDEN, FORBIDDEN, FORBIDDEN, "409 mfa_not_on")),
    Row("GET /api/api-keys",                      (NO_TOKEN, 200,       200,       200,       200)),
    Row("POST /api/api-keys",                     (NO_TOKEN, 201,       201,       201,       201),
        lambda _: {"name": "robot", "scopes": ["read", "tickets"]}),
    Row("POST /api/api-keys",                     (NO_TOKEN, FORBIDDEN, FORBIDDEN, FORBIDDEN, 201),
        lambda _: {"name": "robot", "scopes": ["admin"]}, "for admin"),
    Row("DELETE /api/api-keys/{keyId}",           (NO_TOKEN, 204,       HIDDEN,    HIDDEN,    HIDDEN)),
    Row("GET /api/security-policy",               (NO_TOKEN, FORBIDDEN, FORBIDDEN, FORBIDDEN, 200)),
    Row("PATCH /api/security-policy",             (NO_TOKEN, FORBIDDEN, FORBIDDEN, FORBIDDEN, 200),
        lambda _: {"mfaRequiredFor": []}),
    Row("GET /api/audit",                         (NO_TOKEN, FORBIDDEN, FORBIDDEN, FORBIDDEN, 200)),
    Row("GET /api/me/notifications",              (NO_TOKEN, 200,       200,       200,       200)),
    Row("PATCH /api/me/notifications",            (NO_TOKEN, 200,       200,       200,       200),
        lambda _: {"sla": False}),
    Row("POST /unsubscribe",                      (("400 invalid_unsubscribe_token",) * 5)),
    Row("GET /api/deliveries",                    (NO_TOKEN, FORBIDDEN, FORBIDDEN, FORBIDDEN, 200)),
    Row("POST /api/deliveries/retry",             (NO_TOKEN, FORBIDDEN, FORBIDDEN, FORBIDDEN, 200)),
    Row("POST /api/deliveries/{deliveryId}/retry", (NO_TOKEN, FORBIDDEN, FORBIDDEN, FORBIDDEN, 200)),
    Row("GET /api/mail-suppressions",             (NO_TOKEN, FORBIDDEN, FORBIDDEN, FORBIDDEN, 200)),
    Row("DELETE /api/mail-suppressions/{address}", (NO_TOKEN, FORBIDDEN, FORBIDDEN, FORBIDDEN, 204)),
    Row("POST /api/sendgrid/events",              (("403 invalid_signature",) * 5)),
    Row("GET /api/users",                         (NO_TOKEN, FORBIDDEN, FORBIDDEN, 200,       200)),
    Row("POST /api/users",                        (NO_TOKEN, FORBIDDEN, FORBIDDEN, FORBIDDEN, 201), lambda _: ACCOUNT),
    Row("GET /api/events",                        (NO_TOKEN, 200,       200,       200,       200)),
    Row("HEAD /api/events/stream",                (NO_TOKEN, 200,       200,       200,       200)),
    Row("POST /api/realtime/ticket",              (NO_TOKEN, 201,       201,       201,       201)),
    Row("GET /api/users/{userId}",               (NO_TOKEN, FORBIDDEN, FORBIDDEN, 200,       200)),
    Row("PATCH /api/users/{userId}",             (NO_TOKEN, FORBIDDEN, FORBIDDEN, FORBIDDEN, 200),
        lambda _: {"role": "Agent"}),
    Row("DELETE /api/users/{userId}",            (NO_TOKEN, FORBIDDEN, FORBIDDEN, FORBIDDEN, 204)),
    Row("GET /healthz",                           (200,      200,       200,       200,       200)),
    Row("GET /readyz",                            (200,      200,       200,       200,       200)),
]
# fmt: on


def routes() -> set[str]:
    return {
        f"{method.upper()} {path}" for path, methods in application.openapi()["paths"].items() for method in methods
    }


def test_the_table_and_the_routes_are_the_same() -> None:
    # A stream has no end that a table could wait for; HEAD asks for the same and gets the same refusals.
    as_documented = {"{deleted_id}": "{ticketId}", "HEAD ": "GET "}
    assert {re.sub("|".join(as_documented), lambda m: as_documented[m[0]], row.operation) for row in TABLE} == routes()


async def prepared(callers: Callers) -> Objects:
    """A ticket of the customer's and one that was deleted; the Admin is not the only one."""
    ticket = await open_ticket(callers.customer)
    deleted = await open_ticket(callers.customer)
    answer = await callers.admin.delete(f"/api/tickets/{deleted['id']}")
    assert answer.status_code == 204
    key_id = await add_api_key(callers.customer.actor.id)
    delivery = new_delivery(now(), state=DeliveryState.DEAD)
    await collection_of(Delivery).insert_one(delivery)
    await collection_of(Suppression).insert_one({"_id": ADDRESS, "reason": "bounce", "at": now()})
    session_id = str(callers.customer.actor.credential_id)
    user_id, delivery_id = callers.customer.user_id, str(delivery["_id"])
    return Objects(ticket["id"], deleted["id"], user_id, session_id, str(key_id), delivery_id)


async def send(client: AsyncClient, row: Row, objects: Objects, **headers: str) -> Response:
    method, path = row.operation.split()
    path = path.format(
        ticketId=objects.ticket_id,
        deleted_id=objects.deleted_id,
        userId=objects.user_id,
        sessionId=objects.session_id,
        keyId=objects.key_id,
        deliveryId=objects.delivery_id,
        address=ADDRESS,
    )
    body = row.body(objects) if row.body else None
    answer = await client.request(method, path, json=body, headers=headers)
    if method == "HEAD" and answer.is_error:  # a refusal has an end, and a body to look at
        answer = await client.get(path, headers=headers)
    return answer


async def everything() -> list[list[StoredRow]]:
    """All that is stored of tickets, events, users and what lets them in; refusals are told to the audit log."""
    database = collection_of(Ticket).database
    names = [Ticket.Settings.name, Event.Settings.name, IdempotencyRow.Settings.name]
    names += ["users", "sessions", "api_keys", "security_policy", "spent_tokens", "password_resets"]
    names += [NotificationPreferences.Settings.name, Suppression.Settings.name]
    return await asyncio.gather(*(database[name].find().sort("_id", 1).to_list() for name in names))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("row", TABLE, ids=str)
async def test_each_caller_is_answered_as_the_table_says(callers: Callers, row: Row, kind: str) -> None:
    objects = await prepared(callers)
    if "/analytics/" in row.operation:
        await fill_up()
    expected = row.answers[KINDS.index(kind)]
    before = None if isinstance(expected, int) else await everything()

    answer = await send(callers.by_kind()[kind], row, objects)

    if isinstance(expected, int):
        assert answer.status_code == expected, answer.text
    else:
        assert f"{answer.status_code} {answer.json()['code']}" == expected
        assert answer.headers["Content-Type"] == "application/problem+json"
        assert ("WWW-Authenticate" in answer.headers) == (answer.status_code == 401)
        assert await everything() == before


NEEDS_TOKEN = [row for row in TABLE if row.answers[0] == NO_TOKEN and not row.note]


@pytest.mark.parametrize("row", NEEDS_TOKEN, ids=str)
async def test_a_bad_token_is_worse_than_none(callers: Callers, row: Row) -> None:
    objects = await prepared(callers)
    before = await everything()

    answer = await send(callers.nobody, row, objects, Authorization="Bearer forged")

    assert (answer.status_code, answer.json()["code"]) == (403, "invalid_token")
    assert answer.json()["error"] == "Invalid or expired token"
    assert 'error="invalid_token"' in answer.headers["WWW-Authenticate"]
    assert await everything() == before


@pytest.mark.parametrize("row", [row for row in NEEDS_TOKEN if row.body], ids=str)
async def test_who_is_calling_comes_before_what_is_sent(callers: Callers, row: Row) -> None:
    method, path = row.operation.split()
    path = re.sub(r"{\w+}", str(ObjectId()), path)

    answer = await callers.nobody.request(method, path, content=b"{", headers={"Content-Type": "text/plain"})

    assert (answer.status_code, answer.json()["code"]) == (401, "unauthenticated")
    assert answer.json()["error"] == "No token provided"
