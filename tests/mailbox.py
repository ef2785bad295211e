"""The mail that the application under test has sent."""

import asyncio
import email
import re
from collections.abc import Sequence
from email.message import EmailMessage
from email.policy import default
from pathlib import Path

from app.mail.mailers import FileMailer
from app.mail.outbox import Outbox
from app.mail.sender import Render, Sender

LINK = re.compile(r"(\S+)/reset-password#token=(pr_[A-Za-z0-9_-]{43})\s")
SENDER = "support@example.com"


class Mailbox:
    """Fetches what waits in the queue, as the service's own job would."""

    def __init__(self, outbox: Outbox, render: Render, directory: Path) -> None:
        self._sender = Sender(FileMailer(directory, SENDER), outbox, render)
        self._directory = directory

    async def read(self) -> list[EmailMessage]:
        """All mail since the last `clear`, sent by now, oldest first."""
        await send_all(self._sender)
        return await asyncio.to_thread(read_directory, self._directory)

    async def told(self) -> list[tuple[str, str]]:
        """Who has got a mail about what."""
        return sorted((mail["To"], mail["Subject"]) for mail in await self.read())

    async def clear(self) -> None:
        await send_all(self._sender)
        await asyncio.to_thread(self._delete)

    def _delete(self) -> None:
        for file in self._directory.glob("*"):
            file.unlink()


async def send_all(sender: Sender) -> None:
    """Lets everything go that is due."""
    while claimed := await sender.claim(1):
        await sender.deliver(claimed[0])


def read_directory(directory: Path) -> list[EmailMessage]:
    return [email.message_from_bytes(file.read_bytes(), policy=default) for file in sorted(directory.glob("*.eml"))]


def text_of(mail: EmailMessage) -> str:
    """The mail as programs without HTML show it."""
    body = mail.get_body(("plain",))
    assert body is not None
    content: str = body.get_content()
    return content


def tokens_in(mails: Sequence[EmailMessage]) -> list[str]:
    """Those of the links to new passwords."""
    return [found[2] for mail in mails for found in LINK.finditer(text_of(mail))]
