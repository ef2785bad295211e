"""Outgoing mail: what a mail is, where it goes, and the queue before that, for which no request waits."""

import asyncio
import logging
import os
import secrets
import sys
from contextlib import suppress
from dataclasses import dataclass, field
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTPUTF8
from email.utils import format_datetime
from pathlib import Path
from typing import Protocol

from .clock import now

logger = logging.getLogger(__name__)

MAX_WAITING = 1_000
# Side by side, so that one mail that is tried again and again does not hold up the others.
SENDERS = 4
PAUSES_S = (0.5, 2.0, 8.0)
TRY_S = 10
DRAIN_S = 3


@dataclass(frozen=True, slots=True)
class Message:
    """A mail in plain text to one address. Its `repr` shows neither that nor the text, which may hold a link."""

    to: str = field(repr=False)
    subject: str
    text: str = field(repr=False)


class Mailer(Protocol):
    """Where mail goes."""

    async def send(self, message: Message) -> None:
        """Returns when the mail is in other hands; raises whatever stopped it."""


class ConsoleMailer:
    """Shows mail on standard output, for development."""

    def __init__(self, sender: str) -> None:
        self._sender = sender

    async def send(self, message: Message) -> None:
        # By way of bytes: as text, everything beyond ASCII would be encoded, and links with it.
        lines = as_email(message, self._sender).as_bytes().decode().splitlines()
        sys.stdout.write("\n".join(["", *lines, "", ""]))
        sys.stdout.flush()


class FileMailer:
    """Puts each mail into a file of its own that mail programs open (RFC 5322), for development."""

    def __init__(self, directory: Path, sender: str) -> None:
        self._directory = directory
        self._sender = sender

    async def send(self, message: Message) -> None:
        await asyncio.to_thread(self._write, as_email(message, self._sender).as_bytes())

    def _write(self, content: bytes) -> None:
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        file = self._directory / f"{now():%Y%m%dT%H%M%S.%f}-{secrets.token_hex(4)}.eml"
        draft = file.with_suffix(".part")
        try:
            with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as out:  # noqa: PTH123 - with a mode
                out.write(content)
            draft.rename(file)
        except OSError:
            draft.unlink(missing_ok=True)
            raise


class Outbox:
    """Mail on its way out. It is in memory only: what has not left when the process dies is lost."""

    def __init__(self, mailer: Mailer) -> None:
        self._mailer = mailer
        self._waiting: asyncio.Queue[Message] = asyncio.Queue(MAX_WAITING)

    def post(self, message: Message | None) -> None:
        """Hands a mail over, after the change that it tells of is committed. Neither waits nor raises.

        None, for somebody without an address, is nothing to send.
        """
        if message is None:
            return
        try:
            self._waiting.put_nowait(message)
        except asyncio.QueueFull:
            logger.error("a mail was dropped, because too many wait", extra={"subject": message.subject})  # noqa: TRY400

    async def run(self) -> None:
        """Sends what is posted, for ever."""
        async with asyncio.TaskGroup() as group:
            for _ in range(SENDERS):
                group.create_task(self._send_all())

    async def drain(self) -> None:
        """Returns when everything has been sent or given up; or after some seconds, at the end of the process."""
        with suppress(TimeoutError):
            async with asyncio.timeout(DRAIN_S):
                await self._waiting.join()

    async def _send_all(self) -> None:
        while True:
            message = await self._waiting.get()
            try:
                await self._send(message)
            finally:
                self._waiting.task_done()

    async def _send(self, message: Message) -> None:
        reason = ""
        for pause_s in (0, *PAUSES_S):
            await asyncio.sleep(pause_s)
            try:
                async with asyncio.timeout(TRY_S):
                    await self._mailer.send(message)
            except Exception as error:  # noqa: BLE001 - whatever a mailer meets, the next mail has its turn
                reason = type(error).__name__
            else:
                return
        # Without a traceback, which could show the address.
        logger.error("a mail could not be sent", extra={"subject": message.subject, "reason": reason})


def as_email(message: Message, sender: str) -> EmailMessage:
    """The mail with its headers. Raises `ValueError` for an address with a line break."""
    email = EmailMessage(policy=SMTPUTF8)
    for header, address in (("From", sender), ("To", message.to)):
        name, _, domain = address.rpartition("@")
        email[header] = Address(username=name, domain=domain)
    # A subject with a line break would be a header of somebody else's making.
    email["Subject"] = "".join(letter if letter.isprintable() else " " for letter in message.subject)
    email["Date"] = format_datetime(now())
    email["Message-ID"] = f"<{secrets.token_hex(16)}@{sender.rpartition('@')[2]}>"
    email["Auto-Submitted"] = "auto-generated"
    # Unencoded, so that a link can be copied out of the file by hand.
    email.set_content(message.text, cte="8bit")
    return email
