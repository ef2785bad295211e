"""Live events while the database is hurt: they go on by themselves, and where that can't be, it is said."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path

import httpx
import pytest
from bson import Timestamp

from app.accounts.roles import Role
from app.platform.wire import Row
from tests.faults.conftest import connected
from tests.faults.impatient import MAX_LAG_S
from tests.faults.live import BACK_OFF_S, DOORS, Audience, Subscriber, present, walked
from tests.services import NO_TLS, PATIENCE_S, Mongod, Person, Rows, Service, person, running, until, wait_until

LAG = "event_stream_lag_seconds"
TICKET = {"title": "Afterwards", "description": "All is well again"}
FROZEN_S = 2.0
BALLAST_BYTES = 4_000_000


@asynccontextmanager
async def served(mongod: Mongod, database: str, output: Path) -> AsyncIterator[tuple[Service, Person]]:
    """The service on that server, and an admin."""
    service = Service(mongod.uri(database), output)
    with running(service):
        yield service, person(mongod.client[database], Role.ADMIN)


async def opened(client: httpx.AsyncClient) -> str:
    """A ticket, as soon as one can be opened."""
    async with asyncio.timeout(PATIENCE_S):
        # As a client does that is told to come back later.
        while (answer := await client.post("/api/tickets", json=TICKET)).status_code == 503:  # noqa: ASYNC110
            await asyncio.sleep(BACK_OFF_S)
    ticket_id: str = answer.raise_for_status().json()["id"]
    return ticket_id


def heard(listeners: list[Subscriber]) -> list[list[str]]:
    return [[event["ticketId"] for event in one.told] for one in listeners]


class TestOutage:
    @pytest.mark.parametrize("hurt", ["killed", "stepped down", "frozen"])
    async def test_is_survived_without_a_break(
        self, hurt: str, mongod: Mongod, service: Service, admin: Person, client: httpx.AsyncClient
    ) -> None:
        listeners = [Subscriber(admin, by) for by in DOORS]
        async with Audience(listeners, [service]) as audience:
            tickets = [await opened(client)]
            match hurt:
                case "killed":
                    await asyncio.to_thread(mongod.kill)
                    await asyncio.to_thread(mongod.start)
                case "stepped down":
                    await asyncio.to_thread(mongod.step_down, 1)
                case _:
                    mongod.freeze()
                    await until(lambda: service.metric(LAG) > FROZEN_S)
                    mongod.thaw()
            tickets += [await opened(client), await opened(client)]
            await audience.until(lambda: heard(listeners) == [tickets, tickets])
            await until(lambda: service.metric(LAG) < FROZEN_S)

        assert [(one.visits, one.resyncs) for one in listeners] == [(1, 0), (1, 0)]
        assert heard(listeners) == [tickets, tickets]
        assert "Traceback" not in service.output()

    async def test_of_the_stream_alone_is_seen_from_outside(
        self, mongod: Mongod, impatient: Service, admin: Person
    ) -> None:
        def lag_ms() -> int | None:
            """None while it is not ready."""
            answer = httpx.get(f"{impatient.url}/readyz", timeout=PATIENCE_S, verify=NO_TLS)
            found: int | None = answer.json()["eventLagMs"] if answer.status_code == 200 else None
            return found

        before = lag_ms()
        assert before is not None
        assert 0 <= before < MAX_LAG_S * 1000
        listeners = [Subscriber(admin, by) for by in DOORS]
        async with connected(impatient, admin.headers) as client, Audience(listeners, [impatient]) as audience:
            with mongod.failing(["aggregate", "getMore"], errorCode=50):
                await until(lambda: lag_ms() is None)
                assert impatient.metric(LAG) > MAX_LAG_S
                assert (await client.get("/healthz")).status_code == 200
            await until(lambda: lag_ms() is not None)
            tickets = [await opened(client)]
            await audience.until(lambda: heard(listeners) == [tickets, tickets])
            assert impatient.metric(LAG) < MAX_LAG_S
        assert [(one.visits, one.resyncs) for one in listeners] == [(1, 0), (1, 0)]
        assert "Traceback" not in impatient.output()


class TestLoss:
    """What was missed can't be told in order any more: every open stream says so, and goes on."""

    async def test_of_the_place_in_the_operations_log(self, forgetful: Mongod, tmp_path: Path) -> None:
        rows = forgetful.client["lost"]
        async with (
            served(forgetful, rows.name, tmp_path / "service.log") as (service, admin),
            connected(service, admin.headers) as client,
        ):
            listeners = [Subscriber(admin, by) for by in DOORS]
            async with Audience(listeners, [service]) as audience:
                old = await present(client)
                first = await opened(client)
                await audience.until(lambda: heard(listeners) == [[first], [first]])
                service.freeze()
                await asyncio.to_thread(self.roll_over, rows)
                service.thaw()
                await audience.until(lambda: [one.resyncs for one in listeners] == [1, 1])
                later = await opened(client)
                await audience.until(lambda: heard(listeners) == [[first, later]] * 2)
                await self.check_lost(service, admin, client, old)
            assert [(one.visits, one.resyncs) for one in listeners] == [(1, 1), (1, 1)]
            assert "Traceback" not in service.output()

    async def test_by_a_restored_backup(self, tmp_path: Path) -> None:
        data, copy = tmp_path / "data", tmp_path / "copy"
        with closing(Mongod(data, "--oplogSize", "16")) as mongod:
            await asyncio.to_thread(mongod.start)
            async with (
                served(mongod, "restored", tmp_path / "service.log") as (service, admin),
                connected(service, admin.headers) as client,
            ):
                await opened(client)
                kept = await present(client)
                await asyncio.to_thread(mongod.kill)
                await asyncio.to_thread(shutil.copytree, data, copy)
                await asyncio.to_thread(mongod.start)
                listeners = [Subscriber(admin, by) for by in DOORS]
                async with Audience(listeners, [service]) as audience:
                    undone = await opened(client)
                    await audience.until(lambda: heard(listeners) == [[undone], [undone]])
                    # Behind an event, and behind nothing in particular.
                    places = [listeners[0].cursor, await present(client)]
                    await asyncio.to_thread(mongod.kill)
                    data.rename(tmp_path / "undone")
                    copy.rename(data)
                    await asyncio.to_thread(mongod.start)
                    await opened(client)
                    await audience.until(lambda: [one.resyncs for one in listeners] == [1, 1])
                    later = await opened(client)
                    await audience.until(lambda: all(later in tickets for tickets in heard(listeners)))
                    for place in places:
                        await self.check_lost(service, admin, client, place)
                # What had happened when the backup was made had happened in this log, too.
                assert later in [event["ticketId"] for event in await walked(client, kept, admin.headers)]
                assert "Traceback" not in service.output()

    async def test_with_the_log_itself(
        self, service: Service, rows: Rows, admin: Person, client: httpx.AsyncClient
    ) -> None:
        listeners = [Subscriber(admin, by) for by in DOORS]
        async with Audience(listeners, [service]) as audience:
            first = await opened(client)
            await audience.until(lambda: heard(listeners) == [[first], [first]])
            [place] = {one.cursor for one in listeners}
            rows.drop_collection("events")
            # Makes a new one of the same name.
            await opened(client)
            await audience.until(lambda: [one.resyncs for one in listeners] == [1, 1])
            later = await opened(client)
            await audience.until(lambda: all(later in tickets for tickets in heard(listeners)))
            await self.check_lost(service, admin, client, place)
        assert "Traceback" not in service.output()

    def roll_over(self, rows: Rows) -> None:
        """Returns when the operations log no longer has anything of what the frozen service has asked for."""
        asking: Row = {"op": "getmore", "appName": "ticketing", "active": True}
        wait_until(lambda: not list(rows.client.admin.aggregate([{"$currentOp": {}}, {"$match": asking}])))
        operations = rows.client.local["oplog.rs"]
        asked, newest = -1, Timestamp(0, 0)

        def is_forgotten() -> bool:
            nonlocal asked, newest
            # One that was sent before the service froze may reach the server only now.
            answered = rows.client.admin.command("serverStatus")["opcounters"]["getmore"]
            if answered != asked:
                asked, newest = answered, ends(-1)
            rows.ballast.insert_one({"weight": "x" * BALLAST_BYTES})
            return ends(1) > newest

        def ends(order: int) -> Timestamp:
            end = operations.find_one(sort=[("$natural", order)])
            assert end is not None
            place: Timestamp = end["ts"]
            return place

        wait_until(is_forgotten)

    async def check_lost(self, service: Service, admin: Person, client: httpx.AsyncClient, cursor: str | None) -> None:
        """Whoever comes with that cursor is told to load afresh, and hears what happens then, by whichever door."""
        assert cursor is not None
        refusal = await client.get("/api/events", params={"since": cursor})
        assert (refusal.status_code, refusal.json()["code"]) == (410, "resync_required")
        readers = [Subscriber(admin, by, since=cursor) for by in DOORS]
        async with Audience(readers, [service]) as audience:
            await audience.until(lambda: [one.resyncs for one in readers] == [1, 1])
            ticket = await opened(client)
            await audience.until(lambda: heard(readers) == [[ticket], [ticket]])
        polled = await walked(client, refusal.json()["cursor"], admin.headers)
        assert [event["ticketId"] for event in polled] == [ticket]
