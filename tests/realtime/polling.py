"""What `GET /api/events` says: the measure of what the live doors tell."""

from typing import Any

from tests.callers import Caller


async def news(caller: Caller, since: str | None = None, **parameters: Any) -> dict[str, Any]:
    answer = await caller.get("/api/events", params={**({"since": since} if since else {}), **parameters})
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def present(caller: Caller) -> str:
    cursor: str = (await news(caller))["nextCursor"]
    return cursor


async def walked(caller: Caller, since: str, limit: int = 100) -> list[dict[str, Any]]:
    """Everything since, in pages."""
    items: list[dict[str, Any]] = []
    while True:
        page = await news(caller, since, limit=limit)
        if not page["items"]:
            return items
        items += page["items"]
        since = page["nextCursor"]


def told(items: list[dict[str, Any]]) -> list[tuple[str, str, int]]:
    return [(item["ticketId"], item["type"], item["ticket"]["version"]) for item in items]
