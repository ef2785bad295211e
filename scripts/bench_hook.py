"""What the service would have kept itself, had it written the tickets that the harness puts into its database."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

from bson import ObjectId

# Of one user twenty sockets are let in, so the thousand subscribers of a fan-out are as many Agents as it takes.
LISTENERS = 50


def listener(number: int) -> str:
    return f"listener{number}@example.com"


def after(database: Any) -> None:
    """Add the listeners, with the password of all, and count the tickets, as in any database that is taken over."""
    known = database["users"].find_one({"role": "Agent"})
    database["users"].insert_many(
        {**known, "_id": ObjectId(), "username": listener(number)} for number in range(LISTENERS)
    )
    host, port = database.client.address
    name = database.client.topology_description.replica_set_name
    uri = f"mongodb://{host}:{port}/{database.name}?replicaSet={name}"
    program = Path(__file__).with_name("rebuild-stats")
    subprocess.run([program], env={**os.environ, "MONGODB_URI": uri}, stderr=subprocess.DEVNULL, check=True)
