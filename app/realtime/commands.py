"""Using up a stream's ticket."""

from datetime import datetime

from pymongo.errors import DuplicateKeyError

from app.accounts.errors import InvalidToken
from app.accounts.tokens import AccessClaims, Tokens
from app.platform.mongo import collection_of

from .documents import UsedTicket


async def redeem_ticket(
    ticket: str, door: str, *, tokens: Tokens, now: datetime, is_reconnect: bool = False
) -> AccessClaims:
    """Who the ticket stands for. Each opens one stream, within 30 s. Raises `InvalidToken`.

    A reconnect by the same door may use it again, as long as the access token that it was given for would do: a
    browser's EventSource comes back by itself, with the URL that it has.
    """
    claims = tokens.read_stream_ticket(ticket)
    if claims.access.expires_at <= now:
        raise InvalidToken
    used = collection_of(UsedTicket)
    if is_reconnect and await used.find_one({"_id": claims.id, "door": door}):
        return claims.access
    if claims.expires_at <= now:
        raise InvalidToken
    try:
        await used.insert_one({"_id": claims.id, "door": door, "expiresAt": claims.access.expires_at})
    except DuplicateKeyError:
        raise InvalidToken from None
    return claims.access
