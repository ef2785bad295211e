"""The wall clock, in the precision that MongoDB keeps."""

from datetime import UTC, datetime


def to_ms(moment: datetime) -> datetime:
    """The instant cut to whole milliseconds, as BSON dates hold it."""
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)


def now() -> datetime:
    """The present instant in UTC, in whole milliseconds."""
    return to_ms(datetime.now(UTC))
