"""Why a ticket is not changed."""

from app.platform.errors import Code, Conflict

from .lifecycle import LEGAL_MOVES, Status


class IllegalTransition(Conflict):
    """The problem lists the legal moves as `legalTransitions`."""

    code = Code.ILLEGAL_TRANSITION
    detail = "This move is not legal"

    def __init__(self, before: Status = Status.CLOSED, after: Status = Status.RESOLVED) -> None:
        legal = LEGAL_MOVES[before]
        detail = f"A ticket can't go from {before} to {after}; legal from here: {', '.join(legal)}"
        super().__init__(detail, extra={"legalTransitions": list(legal)})


class NotEditable(Conflict):
    code = Code.NOT_EDITABLE
    detail = "Title and description can be changed by the requester only while the ticket is Open"


class ReopenWindowOver(Conflict):
    code = Code.REOPEN_WINDOW_OVER
    detail = "This ticket was finished too long ago to be reopened; please open a new one"


class NotDeleted(Conflict):
    code = Code.NOT_DELETED
    detail = "This ticket is not deleted"


class RestoreWindowOver(Conflict):
    code = Code.RESTORE_WINDOW_OVER
    detail = "This ticket was deleted more than 30 days ago"
