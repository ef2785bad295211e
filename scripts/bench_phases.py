"""The harness's run with phases of ours beside its own; runs in the harness's environment, with it on the path."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
import urllib.request
from datetime import UTC, datetime, timedelta
from itertools import count, cycle
from math import ceil
from pathlib import Path

import uvloop
from harness import phases, plan, report, runner
from harness.dataset import AGENTS, PASSWORD
from harness.fanout import Subscribers
from harness.mongod import Mongod
from harness.processes import LOAD_CORES, rss_mib
from harness.runner import OutOfTime, Run
from harness.system import System
from harness.target import Target
from harness.wrk import LoadError, require_wrk

DESCRIPTION = Path(__file__).with_name("bench.toml")
# Ours, and what a system without a description of its own does in their place.
FALLBACKS = {"list_different": "list_filtered", "create_alone": "create"}
QUESTIONS = 10_000
LATER = datetime(2027, 1, 1, tzinfo=UTC)
SOAK = ("get", "list", "list_filtered", "list_different", "graphql_list", "create", "graphql_create", "update")
SOCKETS_PER_USER = 20
SOAK_SIZE, SOAK_SLICE_S, SOAK_SOCKETS = 20_000, 2, 200
MINUTE_S = 60


class OurTarget(Target):
    """Has the loads of our phases, too."""

    _instants = count()

    def requests(self, operation: str) -> list:
        if operation == "list_different":
            op, agents = self.system.operation(operation), cycle(AGENTS)
            return [
                op.request(status="Open", assignee=str(next(agents)), instant=self._unasked()) for _ in range(QUESTIONS)
            ]
        return super().requests("create" if operation == "create_alone" else operation)

    def _unasked(self) -> str:
        """An instant later than all tickets, another one each time."""
        return f"{LATER + timedelta(milliseconds=next(self._instants)):%Y-%m-%dT%H:%M:%S.%f}Z"


class OurSubscribers(Subscribers):
    """To this service as many different users as it takes; to others one, as the harness has it."""

    def __init__(self, system: System, base_url: str, token: str, count: int) -> None:
        super().__init__(system, base_url, token, count)
        self._tokens = cycle(self._sign_in(system, base_url) if system.hook is not None else [token])

    def _sign_in(self, system: System, base_url: str) -> list[str]:
        tokens = []
        for number in range(ceil(self.count / SOCKETS_PER_USER)):
            request = system.login.request(username=system.hook.listener(number), password=PASSWORD)
            body = urllib.request.Request(  # noqa: S310 - ours
                base_url + request.path, request.body.encode(), {"Content-Type": "application/json"}
            )
            with urllib.request.urlopen(body) as answer:  # noqa: S310 - ours
                tokens.append(json.load(answer)["token"])
        return tokens

    async def _connect(self, gate: asyncio.Semaphore) -> None:
        async with gate:
            if self.headers:
                # Read before anybody else has a turn, since the gate that is handed on is open.
                self.headers = {"Authorization": f"Bearer {next(self._tokens)}"}
            await super()._connect(asyncio.Semaphore())


def load_system(name: str | Path) -> System:
    system = System.load(str(name))
    for ours, theirs in FALLBACKS.items():
        system.spec["operations"].setdefault(ours, system.spec["operations"][theirs])
    return system


def with_ours(whole: plan.Plan) -> plan.Plan:
    """The plan with our phases behind the last of its closed loops on the main size."""
    phases.CONNECTIONS["create_alone"] = 1
    for stage in whole.stages:
        names = [phase.name for phase in stage.phases]
        if "update" in names:
            ours = [phases.closed_loop("list_different", 3), phases.closed_loop("create_alone", 3)]
            at = names.index("update") + 1
            stage.phases[at:at] = ours
    return whole


def measure(arguments: argparse.Namespace, mongod: Mongod) -> int:
    systems = [*map(load_system, arguments.systems), load_system(DESCRIPTION)]
    about = report.environment(mongod.version) | {system.name: system.spec["about"] for system in systems}
    whole = with_ours(plan.quick() if arguments.quick else plan.full())
    # Counting a million tickets takes minutes, and is not what is measured.
    whole = plan.Plan(whole.rounds, whole.limit_seconds * 3, whole.stages)
    runner.Target, phases.Subscribers = OurTarget, OurSubscribers
    run = Run(systems, whole, mongod, set(arguments.only))
    error = None
    try:
        run.execute()
    except (LoadError, OutOfTime) as failure:
        error = str(failure)
    report.derive(run.results)
    print(report.text(run.results, [system.name for system in systems], about))
    if error:
        print(f"THE RUN IS VOID: {error}", file=sys.stderr)
    return 1 if error else 0


def soak(minutes: float, mongod: Mongod) -> int:
    """Every kind of request in turn, beside live sockets that hear of each change; prints what the memory does."""
    target = OurTarget(load_system(DESCRIPTION), mongod, SOAK_SIZE)
    target.start()
    try:
        uvloop.run(_soak(target, minutes))
    finally:
        target.stop()
    return 0


async def _soak(target: Target, minutes: float) -> None:
    began = told = time.monotonic()
    print(f"| minute | requests | RSS MiB |\n|---:|---:|---:|\n| 0 | 0 | {rss_mib(target.pid):.0f} |")
    done = 0
    async with OurSubscribers(target.system, target.base_url, target.token, SOAK_SOCKETS) as group:
        group.meter.received = lambda _payload: None
        for operation in cycle(SOAK):
            # In a thread, so that the sockets are read meanwhile.
            done += (await asyncio.to_thread(target.load, operation, 32, SOAK_SLICE_S)).requests
            if time.monotonic() - told > MINUTE_S:
                told = time.monotonic()
                print(f"| {(told - began) / MINUTE_S:.0f} | {done} | {rss_mib(target.pid):.0f} |", flush=True)
            if time.monotonic() - began > minutes * MINUTE_S:
                return


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__)
    parser.add_argument("systems", nargs="*")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only", nargs="+", default=[])
    parser.add_argument("--soak", type=float)
    arguments = parser.parse_args()
    require_wrk()
    mongod = Mongod(LOAD_CORES)
    try:
        return soak(arguments.soak, mongod) if arguments.soak else measure(arguments, mongod)
    finally:
        mongod.stop()


if __name__ == "__main__":
    sys.exit(main())
