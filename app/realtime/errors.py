"""Why a stream can't go on."""

from app.platform.errors import AppError, Code


class ResyncRequired(AppError):
    """The problem carries `cursor`: load the state afresh and go on from there."""

    status = 410
    code = Code.RESYNC_REQUIRED
    detail = "What happened since this cursor can't be told completely; load the state afresh and go on from `cursor`"

    def __init__(self, cursor: str) -> None:
        super().__init__(extra={"cursor": cursor})
