"""The mail that the application under test has sent."""

import asyncio
import email
import re
from collections.abc import Sequence
from email.message import EmailMessage
from email.policy import default
from pathlib import Path

from app.platform.mail import Outbox

LINK = re.compile(r"(\S+)/reset-password#token=(pr_[A-Za-z0-9_-]{43})\s")


class Mailbox:
    def __init__(self, outbox: Outbox, directory: Path) -> None:
        self._outbox = outbox
        self._directory = directory

    async def read(self) -> list[EmailMessage]:
        """All mail since the last `clear`, sent by now, oldest first."""
        await self._outbox.drain()
        return await asyncio.to_thread(read_directory, self._directory)

    async def told(self) -> list[tuple[str, str]]:
        """Who has got a mail about what."""
        return sorted((mail["To"], mail["Subject"]) for mail in await self.read())

    async def clear(self) -> None:
        await self._outbox.drain()
        await asyncio.to_thread(self._delete)

    def _delete(self) -> None:
        for file in self._directory.glob("*"):
            file.unlink()


def read_directory(directory: Path) -> list[EmailMessage]:
    return [email.message_from_bytes(file.read_bytes(), policy=default) for file in sorted(directory.glob("*.eml"))]


def tokens_in(mails: Sequence[EmailMessage]) -> list[str]:
    """Those of the links to new passwords."""
    return [found[2] for mail in mails for found in LINK.finditer(mail.get_content())]
