"""What is said on a live stream: the frames of both sides, the options, the close codes."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Annotated, Literal

from pydantic import Field

from app.accounts.errors import MfaSetupRequired
from app.events.catalog import EventType
from app.platform.errors import InvalidInput
from app.platform.paging import wrong_parameters
from app.platform.wire import Id, Row, Secret, WireModel, to_json
from app.tickets.schemas import EventOut, event_out

PARAMETERS = ("since", "ticketId", "types")


class CloseCode(IntEnum):
    """Why the service ends a stream. The 44xx are this protocol's; the others are RFC 6455's."""

    FAULT = 1011
    RESTARTING = 1012
    TRY_LATER = 1013
    NOT_UNDERSTOOD = 4400
    UNAUTHENTICATED = 4401
    FORBIDDEN = 4403
    NO_SUBPROTOCOL = 4406
    AUTH_TIMEOUT = 4408
    SAME_ID = 4409
    TOO_MUCH = 4429


@dataclass(frozen=True, slots=True)
class Ending:
    """Why a stream ends: the close code, and a reason for whoever debugs the client."""

    code: CloseCode
    reason: str


class StreamEnds(Exception):
    """The stream can't begin, or can't go on."""

    def __init__(self, ending: Ending) -> None:
        self.ending = ending
        super().__init__(ending.reason)


NO_TOKEN = Ending(CloseCode.UNAUTHENTICATED, "Invalid or expired token")
SESSION_OVER = Ending(CloseCode.UNAUTHENTICATED, "The session is over")
TOKEN_EXPIRED = Ending(CloseCode.UNAUTHENTICATED, "The token has expired; renew it with an auth message in time")
WRONG_ORIGIN = Ending(CloseCode.FORBIDDEN, "This origin is not allowed")
MFA_REQUIRED = Ending(CloseCode.FORBIDDEN, MfaSetupRequired.detail)
OTHER_USER = Ending(CloseCode.FORBIDDEN, "A stream can't pass to another user")
AUTH_TIMEOUT = Ending(CloseCode.AUTH_TIMEOUT, "No auth message within 10 s")
TOO_SLOW = Ending(CloseCode.TOO_MUCH, "Too slow a reader; come back with since")
TOO_MANY_STREAMS = Ending(CloseCode.TOO_MUCH, "Too many streams of one user")
TOO_MANY_MESSAGES = Ending(CloseCode.TOO_MUCH, "Too many messages")
FAULT = Ending(CloseCode.FAULT, "Something went wrong on our side")
RESTARTING = Ending(CloseCode.RESTARTING, "The service restarts; come back with since")
NOT_READY = Ending(CloseCode.TRY_LATER, "The database can't be reached at the moment")


class Options(WireModel):
    """What of the event log a stream is to tell."""

    # Of whatever length and characters: what is no cursor of ours is answered by `resync`, which mends the client.
    since: str | None = Field(default=None, description="The cursor to go on from; absent: from now on")
    ticket_id: Id | None = Field(default=None, description="Only events of this ticket")
    types: Annotated[list[EventType], Field(min_length=1, max_length=len(EventType))] | None = Field(
        default=None, description="Only events of these types"
    )


class AuthFrame(Options):
    """The client's first message, where neither header nor ticket has said who it is; later, a renewal of the token.

    A renewal carries the token alone: it does not change what the stream tells.
    """

    type: Literal["auth"]
    token: Secret = Field(description="An access token, as `POST /api/login` gives it")


class ReadyFrame(WireModel):
    """The stream is open. Without `since` the cursor is the present one; with it, it is where the replay starts."""

    type: Literal["ready"]
    cursor: str


class EventFrame(WireModel):
    """One change. Keep the cursor of the last one that was handled, to come back with."""

    type: Literal["event"]
    cursor: str
    event: EventOut


class ResyncFrame(WireModel):
    """What happened in between can't be told completely: load the state afresh. The stream goes on behind `cursor`."""

    type: Literal["resync"]
    cursor: str


def options_of(query: Mapping[str, str], *also: str) -> Options:
    """The options as query parameters; `also` names others that may stand beside them. Raises `InvalidInput`."""
    if errors := wrong_parameters(query, {*PARAMETERS, *also}):
        raise InvalidInput(*errors)
    given: Row = {name: query[name] for name in PARAMETERS if name in query}
    if "types" in given:
        given["types"] = [name.strip() for name in given["types"].split(",")]
    return Options.parse(given)


def ready_frame(cursor: str) -> bytes:
    return to_json({"type": "ready", "cursor": cursor})


def event_frame(row: Row, cursor: str) -> bytes:
    return to_json({"type": "event", "cursor": cursor, "event": event_out(row, cursor)})


def resync_frame(cursor: str) -> bytes:
    return to_json({"type": "resync", "cursor": cursor})
