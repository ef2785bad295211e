"""Data loaders: what the objects of one answer refer to, read in one command for all of them."""

from collections import defaultdict

from bson import ObjectId
from strawberry.dataloader import DataLoader

from app.accounts.actor import Actor
from app.accounts.queries import users_by_id
from app.accounts.schemas import user_seen_by
from app.platform.paging import Page
from app.platform.wire import Row
from app.tickets.queries import ticket_histories

HistoryKey = tuple[ObjectId, int]


class Loaders:
    """The loaders of one execution; each is named after what it gives and by which key."""

    def __init__(self, actor: Actor) -> None:
        self._actor = actor
        self.user_by_id: DataLoader[ObjectId, Row | None] = DataLoader(self._users)
        self.history_by_ticket_and_limit: DataLoader[HistoryKey, Page] = DataLoader(self._histories)

    async def _users(self, ids: list[ObjectId]) -> list[Row | None]:
        """The users as the actor may see them; None for an account that is gone."""
        rows = await users_by_id(ids)
        return [user_seen_by(self._actor, rows[user_id]) if user_id in rows else None for user_id in ids]

    async def _histories(self, keys: list[HistoryKey]) -> list[Page]:
        """The first page of each history. Its tickets must be ones that the actor may see."""
        by_limit: dict[int, list[ObjectId]] = defaultdict(list)
        for ticket_id, limit in keys:
            by_limit[limit].append(ticket_id)
        pages = {limit: await ticket_histories(self._actor, ids, limit) for limit, ids in by_limit.items()}
        return [pages[limit][ticket_id] for ticket_id, limit in keys]
