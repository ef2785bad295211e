"""What people want to be told, said by themselves or by a link in a mail."""

import re
from typing import Any

from httpx import AsyncClient

from app.notifications.addresses import unsubscribe_url
from app.notifications.documents import NotificationPreferences
from app.notifications.kinds import Kind
from app.platform.mongo import collection_of
from tests.callers import BASE_URL, Caller, Callers
from tests.conftest import Started

PATH = "/api/me/notifications"
ALL = {"resolved": True, "sla": True, "assigned": True, "created": True, "commented": True, "statusChanged": True}


def link(app: Started, caller: Caller, kind: Kind) -> str:
    return unsubscribe_url(BASE_URL, caller.actor.id, kind, app.state["notification_key"])


async def wanted(caller: Caller) -> dict[str, bool]:
    answer = await caller.get(PATH)
    assert answer.status_code == 200, answer.text
    found: dict[str, bool] = answer.json()
    return found


class TestPreferences:
    async def test_are_merged_and_everybody_has_their_own(self, callers: Callers) -> None:
        customer = callers.customer
        assert await wanted(customer) == ALL
        for patch, expected in [
            ({}, ALL),
            ({"commented": False, "created": False}, ALL | {"commented": False, "created": False}),
            ({"commented": True, "statusChanged": False}, ALL | {"created": False, "statusChanged": False}),
            ({"created": False}, ALL | {"created": False, "statusChanged": False}),
            (ALL, ALL),
        ]:
            answer = await customer.patch(PATH, json=patch)
            assert (answer.status_code, answer.json()) == (200, expected)
            assert await wanted(customer) == expected
        for kind in Kind:
            assert (await customer.patch(PATH, json={kind: False})).json()[kind] is False
        assert set((await wanted(customer)).values()) == {False}
        for other in (callers.other_customer, callers.agent):
            assert await wanted(other) == ALL

    async def test_refuse_what_is_no_yes_or_no(self, callers: Callers) -> None:
        no_booleans: list[Any] = [None, "false", 0, []]
        refused = [{"sla": value} for value in no_booleans]
        for patch in [*refused, {"security": False}, {"status_changed": False}]:
            answer = await callers.customer.patch(PATH, json=patch)
            assert (answer.status_code, answer.json()["code"]) == (422, "invalid_input"), patch
        assert await collection_of(NotificationPreferences).count_documents({}) == 0

    async def test_are_set_by_keys_that_may_write(self, callers: Callers) -> None:
        for scope, status in (("read", 403), ("tickets", 200)):
            made = await callers.agent.post("/api/api-keys", json={"name": "robot", "scopes": [scope]})
            headers = {"Authorization": f"Bearer {made.json()['key']}"}

            answer = await callers.nobody.patch(PATH, json={"sla": False}, headers=headers)

            assert answer.status_code == status
            assert (await callers.nobody.get(PATH, headers=headers)).json() == ALL | {"sla": status == 403}


class TestUnsubscribe:
    async def test_by_one_click_of_a_mail_program(self, app: Started, callers: Callers) -> None:
        customer, url = callers.customer, link(app, callers.customer, Kind.COMMENTED)
        bodies: list[dict[str, Any]] = [
            {"data": {"List-Unsubscribe": "One-Click"}},
            {"files": {"List-Unsubscribe": (None, "One-Click")}},
            {"content": b"\xff", "headers": {"Content-Type": "text/plain"}},
            {},
        ]
        for body in bodies:
            await customer.patch(PATH, json={"commented": True})
            for _ in range(2):
                answer = await callers.nobody.post(url, **body)

                assert (answer.status_code, answer.json()) == (200, {"kind": "commented"})
                assert "Set-Cookie" not in answer.headers
                assert await wanted(customer) == ALL | {"commented": False}
        assert await wanted(callers.other_customer) == ALL

    async def test_looking_changes_nothing(self, app: Started, callers: Callers) -> None:
        for method in ("GET", "HEAD"):
            answer = await callers.nobody.request(method, link(app, callers.customer, Kind.CREATED))
            assert answer.status_code == 200
        assert await collection_of(NotificationPreferences).count_documents({}) == 0

    async def test_is_refused_to_forgers(self, app: Started, callers: Callers) -> None:
        url = link(app, callers.customer, Kind.CREATED)
        for wrong in ("/unsubscribe", "/unsubscribe?token=", url[:-1], url + "A", url + "=", f"{url}%00"):
            answer = await callers.nobody.post(wrong)
            assert (answer.status_code, answer.json()["code"]) == (400, "invalid_unsubscribe_token"), wrong
        assert await collection_of(NotificationPreferences).count_documents({}) == 0


class TestPage:
    async def test_is_strict_and_whole_without_other_hosts(self, nobody: AsyncClient) -> None:
        answer = await nobody.get("/unsubscribe?token=<script>")

        policy = dict(part.strip().split(" ", 1) for part in answer.headers["Content-Security-Policy"].split(";"))
        assert (answer.status_code, answer.headers["Content-Type"]) == (200, "text/html; charset=utf-8")
        assert policy["default-src"] == policy["form-action"] == policy["frame-ancestors"] == "'none'"
        assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
        assert re.findall(r"https?:|//|unsafe|\*", answer.headers["Content-Security-Policy"]) == []
        assert re.findall(r"<script(?! src=)|<style|\sstyle=|\son\w+=|javascript:", answer.text) == []
        files = re.findall(r'(?:src|href)="([^"]*)"', answer.text)
        assert len(files) == 3
        assert [(await nobody.get(file)).status_code for file in files] == [200] * 3
        for name in ("nothing.js", "unsubscribe.html", "..%2f__init__.py"):
            assert (await nobody.get(f"/unsubscribe/files/{name}")).status_code == 404
