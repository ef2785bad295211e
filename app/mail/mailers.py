"""Where mail goes: what every mailer promises, and the two that are for development."""

import asyncio
import os
import sys
from pathlib import Path
from typing import Protocol

from app.platform.batching import Batcher
from app.platform.clock import now

from .message import Message, as_email

# Mails that are written to files together.
AT_ONCE = 100


class Undelivered(Exception):
    """The mail is not in other hands, as far as is known.

    `is_final`: it would be refused again. `retry_after_s`: how long the other side wants to hear nothing at all.
    """

    def __init__(self, reason: str, *, is_final: bool = False, retry_after_s: float | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.is_final = is_final
        self.retry_after_s = retry_after_s


class Mailer(Protocol):
    """Where mail goes."""

    async def send(self, message: Message, delivery_id: str) -> None:
        """Returns when the mail is in other hands. Raises `Undelivered`, or whatever else stopped it."""


class ConsoleMailer:
    """Shows mail on standard output, for development."""

    def __init__(self, sender: str) -> None:
        self._sender = sender

    async def send(self, message: Message, delivery_id: str) -> None:
        # By way of bytes: as text, everything beyond ASCII would be encoded, and links with it.
        lines = as_email(message, delivery_id, self._sender).as_bytes().decode().splitlines()
        sys.stdout.write("\n".join(["", *lines, "", ""]))
        sys.stdout.flush()


class FileMailer:
    """Puts each mail into a file of its own that mail programs open (RFC 5322), for development."""

    def __init__(self, directory: Path, sender: str) -> None:
        self._directory = directory
        self._sender = sender
        # To go to a thread takes longer than to write a mail.
        self._write: Batcher[tuple[str, bytes], None] = Batcher(self._write_in_thread, at_most=AT_ONCE)

    async def send(self, message: Message, delivery_id: str) -> None:
        content = as_email(message, delivery_id, self._sender).as_bytes()
        await self._write((f"{now():%Y%m%dT%H%M%S.%f}-{delivery_id}.eml", content))

    async def _write_in_thread(self, mails: list[tuple[str, bytes]]) -> list[Exception | None]:
        return await asyncio.to_thread(self._write_all, mails)

    def _write_all(self, mails: list[tuple[str, bytes]]) -> list[Exception | None]:
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        return [self._failure_of(self._directory / name, content) for name, content in mails]

    def _failure_of(self, file: Path, content: bytes) -> Exception | None:
        """What stops the mail from being written whole, or at all; None if nothing does."""
        draft = file.with_suffix(".part")
        try:
            with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as out:  # noqa: PTH123 - with a mode
                out.write(content)
            draft.rename(file)
        except OSError as error:
            draft.unlink(missing_ok=True)
            return error
        return None
