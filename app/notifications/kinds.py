"""The kinds of news that mail brings, which people switch off one by one."""

from enum import StrEnum


class Kind(StrEnum):
    """What a mail about a ticket is about; clients and links in mails hold these words, so none is ever renamed.

    The most telling first: that one names a mail of several kinds.
    """

    RESOLVED = "resolved"
    SLA = "sla"
    ASSIGNED = "assigned"
    CREATED = "created"
    COMMENTED = "commented"
    STATUS_CHANGED = "statusChanged"
