"""`scripts/rebuild-stats` and `scripts/check-stats` as whoever runs the place runs them."""

import os
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

from tests.analytics.lives import BIRTH, Life, old_ticket
from tests.services import Rows

SCRIPTS = Path(__file__).parents[2] / "scripts"
EVERYTHING = {"_id.dim": "all", "_id.priority": None, "_id.grain": "all"}


def run(program: str, uri: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
    environment = {**os.environ, "MONGODB_URI": uri}
    environment.pop("JWT_SECRET", None)
    return subprocess.run(
        [SCRIPTS / program, *arguments], env=environment, cwd="/", capture_output=True, check=False, text=True
    )


def test_counts_and_checks(uri: str, rows: Rows) -> None:
    lives = [Life().resolve(BIRTH + timedelta(days=1)), Life(tags=["a"]).delete(BIRTH)]
    old = [old_ticket(), old_ticket(status="Resolved", resolvedAt=BIRTH), old_ticket(status="Resolved")]
    rows.tickets.insert_many([*(life.ticket for life in lives), *old])
    rows.events.insert_many([event for life in lives for event in life.events])

    rebuilt = run("rebuild-stats", uri)
    assert (rebuilt.returncode, rebuilt.stdout) == (0, "")
    assert rebuilt.stderr.startswith("5 tickets, 100 %, ")
    cell = rows.stats_cells.find_one(EVERYTHING)
    assert cell is not None
    totals = {name: cell[name] for name in ("created", "open", "resolved", "resolvedUndated")}
    assert totals == {"created": 4, "open": 1, "resolved": 2, "resolvedUndated": 1}

    # Changed by hand: a sum, a zero that means nothing, and a cell too many.
    rows.stats_cells.update_one(EVERYTHING, {"$inc": {"created": 1, "nothing": 0}})
    day = {"dim": "tag", "value": "b", "priority": "Medium", "grain": "day", "start": datetime(2026, 2, 1, tzinfo=UTC)}
    rows.stats_cells.insert_one({"_id": day, "created": 3, "buckets": {"5": 3}})
    # Right: a ticket that is newer than the figures have it, and one that is only just new.
    new = Life(createdAt=datetime.now(UTC) + timedelta(hours=1))
    known = len(lives[0].events)
    lives[0].reopen(BIRTH + timedelta(days=2))
    rows.tickets.replace_one({"_id": lives[0].ticket["_id"]}, lives[0].ticket)
    rows.tickets.insert_one(new.ticket)
    rows.events.insert_many([*lives[0].events[known:], *new.events])
    checked = run("check-stats", uri)
    assert (checked.returncode, checked.stderr) == (1, "")
    assert checked.stdout.splitlines() == [
        "all all: created is 5, and should be 4",
        "tag b Medium day 2026-02-01 00:00:00+00:00: buckets.5 is 3, and should be 0",
        "tag b Medium day 2026-02-01 00:00:00+00:00: created is 3, and should be 0",
        "2 cells differ",
    ]

    rebuilt = run("rebuild-stats", uri, "--from-scratch")
    assert (rebuilt.returncode, rebuilt.stdout) == (0, "")
    assert rebuilt.stderr.startswith("6 tickets, 100 %, ")
    checked = run("check-stats", uri)
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, "0 cells differ\n", "")


def test_says_that_there_is_no_database() -> None:
    ended = run("check-stats", "mongodb://127.0.0.1:1/nowhere?serverSelectionTimeoutMS=100")

    assert ended.returncode == 1
    assert ended.stderr.startswith("scripts/check-stats: the database can't be used: ")
    assert len(ended.stderr.splitlines()) == 1
