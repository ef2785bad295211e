"""What is stored of people's wishes about mail."""

from beanie import Document

from .kinds import Kind


class NotificationPreferences(Document):
    """What a user, by whose id the row goes, does not want to be told; without a row they are told everything."""

    off: list[Kind] = []

    class Settings:
        name = "notification_preferences"
