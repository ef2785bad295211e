"""The database dies or changes its mind: what was promised is kept, and the service comes back by itself."""

import asyncio

from tests.faults.load import WRITERS, Load
from tests.services import Mongod, Person, Rows, Service, until

# Acknowledgements: enough for each writer to be in the midst of something.
PROGRESS = 30


class TestKilledUnderLoad:
    async def test_nothing_acknowledged_is_lost_or_done_twice(
        self, mongod: Mongod, rows: Rows, service: Service, admin: Person
    ) -> None:
        async with Load(service, admin) as load:
            for refusals in (0, WRITERS):  # back before anybody is refused, or only after many were
                await load.progress(PROGRESS)
                await asyncio.to_thread(mongod.kill)
                await until(lambda least=refusals: load.statuses[503] >= least)  # type: ignore[misc]
                await asyncio.to_thread(mongod.start)
            await until(service.is_ready)
            await load.progress(PROGRESS)

        load.check(rows)
        assert load.broken_connections == 0
        assert "Traceback" not in service.output()


class TestStepDown:
    async def test_the_service_waits_for_the_next_primary(
        self, mongod: Mongod, rows: Rows, service: Service, admin: Person
    ) -> None:
        async with Load(service, admin) as load:
            await load.progress(PROGRESS)
            await asyncio.to_thread(mongod.step_down, 1)  # shorter than the service waits for a primary
            await load.progress(PROGRESS)
            await asyncio.to_thread(mongod.step_down, 4)  # longer
            await until(lambda: load.statuses[503] >= 1)
            await until(service.is_ready)
            await load.progress(PROGRESS)

        load.check(rows)
        assert load.broken_connections == 0
        assert "Traceback" not in service.output()
