"""SIGTERM: nobody who was heard is cut off, and nobody new is let in."""

import asyncio
import signal

import httpx

from tests.factories.accounts import COSTLY_HASH, PASSWORD
from tests.faults.load import check_whole
from tests.faults.slow import SlowRequest
from tests.services import Person, Rows, Service, until

LOGINS = 6
CREATES = 5


class TestShutdown:
    async def test_requests_under_way_are_answered_and_new_ones_refused(
        self, service: Service, admin: Person, client: httpx.AsyncClient, rows: Rows
    ) -> None:
        # Whose check takes so long that it is still under way when the service is told to end.
        rows.users.update_one({"_id": admin.id}, {"$set": {"password": COSTLY_HASH}})
        credentials = {"username": admin.username, "password": PASSWORD}
        logins = asyncio.gather(*(client.post("/api/login", json=credentials) for _ in range(LOGINS)))
        body = {"title": "In time", "description": "Sent in two halves"}
        creates = [
            await SlowRequest.begin(service, "POST", "/api/tickets", admin.headers, body) for _ in range(CREATES)
        ]
        await until(lambda: service.requests_in_progress() >= CREATES + 1)

        service.ask_to_end()
        await until(lambda: not service.is_listening())
        answers = await asyncio.gather(*(create.finish() for create in creates))

        assert [status for status, _ in answers] == [201] * CREATES
        assert [answer.status_code for answer in await logins] == [200] * LOGINS
        # uvicorn obeys, then lets the signal have its usual effect.
        assert await asyncio.to_thread(service.wait) == -signal.SIGTERM
        assert "Traceback" not in service.output()
        ids = sorted(ticket["id"] for _, ticket in answers)
        assert sorted(str(ticket["_id"]) for ticket in rows.tickets.find()) == ids
        assert rows.sessions.count_documents({"userId": admin.id}) == LOGINS + 1
        check_whole(rows)
