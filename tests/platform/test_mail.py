"""Mail as it leaves: what a mail looks like, where development finds it, and a queue that holds nobody up."""

import asyncio
import email
import logging
import re
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from email.message import EmailMessage
from email.policy import default
from pathlib import Path

import pytest

from app.platform import mail
from app.platform.mail import MAX_WAITING, ConsoleMailer, FileMailer, Mailer, Message, Outbox, as_email

SENDER = "support@example.com"
LINK = "https://help.example.com/reset-password#token=pr_" + "x" * 43
MESSAGE = Message("carol@example.com", "Your password was changed", f"Grüße,\n\n{LINK}\n")


def read(content: bytes) -> EmailMessage:
    return email.message_from_bytes(content, policy=default)


def files_in(directory: Path) -> list[Path]:
    return sorted(directory.iterdir())


class TestMessage:
    def test_says_from_whom_to_whom_and_what(self) -> None:
        content = as_email(MESSAGE, SENDER).as_bytes()

        parsed = read(content)
        assert (parsed["From"], parsed["To"], parsed["Subject"]) == (SENDER, MESSAGE.to, MESSAGE.subject)
        assert parsed["Auto-Submitted"] == "auto-generated"
        assert re.fullmatch(r"<[0-9a-f]{32}@example\.com>", parsed["Message-ID"])
        assert parsed["Date"].datetime.tzinfo is not None
        assert parsed.get_content_type() == "text/plain"
        assert parsed.get_content().replace("\r\n", "\n") == MESSAGE.text
        # To be copied by hand, so neither wrapped nor encoded.
        assert LINK in content.decode().splitlines()

    @pytest.mark.parametrize(
        "evil", ["a\r\nBcc: eve@example.com", "a\nBcc: eve@example.com", "a\x00\x1b[31m", "a\u2028b"]
    )
    def test_a_subject_makes_no_header(self, evil: str) -> None:
        content = as_email(Message("carol@example.com", evil, "text"), SENDER).as_bytes()

        parsed = read(content)
        assert "Bcc" not in parsed
        assert parsed["Subject"].isprintable()
        assert content.count(b"\r\n\r\n") == 1

    @pytest.mark.parametrize("evil", ["a@b.example\r\nBcc: eve@example.com", "a\nb@c.example"])
    def test_an_address_makes_no_header(self, evil: str) -> None:
        with pytest.raises(ValueError, match="CR or LF"):
            as_email(Message(evil, "subject", "text"), SENDER)

    def test_one_address_is_one_recipient(self) -> None:
        parsed = read(as_email(Message("eve@example.com,carol@example.com", "subject", "text"), SENDER).as_bytes())

        assert len(parsed["To"].addresses) == 1

    def test_shows_neither_address_nor_text(self) -> None:
        assert repr(MESSAGE) == "Message(subject='Your password was changed')"


class TestConsole:
    async def test_shows_the_whole_mail(
        self, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
    ) -> None:
        await ConsoleMailer(SENDER).send(MESSAGE)

        shown = capsys.readouterr().out
        assert f"To: {MESSAGE.to}" in shown
        assert LINK in shown
        assert caplog.records == []


class TestFiles:
    async def test_each_mail_is_a_private_file(self, tmp_path: Path) -> None:
        directory = tmp_path / "some" / "mail"
        mailer = FileMailer(directory, SENDER)

        await mailer.send(MESSAGE)
        await mailer.send(MESSAGE)

        files = files_in(directory)
        assert len(files) == 2
        for file in files:
            assert re.fullmatch(r"\d{8}T\d{6}\.\d{6}-[0-9a-f]{8}\.eml", file.name)
            assert file.stat().st_mode & 0o777 == 0o600
            assert read(file.read_bytes())["To"] == MESSAGE.to
        assert directory.stat().st_mode & 0o777 == 0o700

    async def test_is_there_whole_or_not_at_all(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def fail(_self: Path, _target: Path) -> None:
            raise OSError

        monkeypatch.setattr(Path, "rename", fail)

        with pytest.raises(OSError, match=r"^$"):
            await FileMailer(tmp_path, SENDER).send(MESSAGE)

        assert files_in(tmp_path) == []

    async def test_says_when_it_can_not(self, tmp_path: Path) -> None:
        (tmp_path / "mail").touch()

        with pytest.raises(FileExistsError):
            await FileMailer(tmp_path / "mail", SENDER).send(MESSAGE)


class Scripted:
    """A mailer that does as told with each try, and keeps what it sent."""

    def __init__(self, act: Callable[[Message, int], None] = lambda _message, _tries: None) -> None:
        self._act = act
        self.tries = 0
        self.sent: list[Message] = []

    async def send(self, message: Message) -> None:
        self.tries += 1
        self._act(message, self.tries)
        self.sent.append(message)


class Stuck:
    """A mailer that never comes back."""

    async def send(self, message: Message) -> None:
        await asyncio.Event().wait()


@asynccontextmanager
async def running(mailer: Mailer) -> AsyncIterator[Outbox]:
    outbox = Outbox(mailer)
    worker = asyncio.create_task(outbox.run())
    yield outbox
    worker.cancel()
    await asyncio.wait([worker])


def numbered(number: int) -> Message:
    return Message(f"user{number}@example.com", f"number {number}", "secret text")


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pauses and patience that a test can bear."""
    monkeypatch.setattr(mail, "PAUSES_S", (0.001, 0.002, 0.003))
    monkeypatch.setattr(mail, "TRY_S", 0.05)
    monkeypatch.setattr(mail, "DRAIN_S", 5)


@pytest.mark.usefixtures("hasty")
class TestOutbox:
    async def test_sends_what_is_posted(self) -> None:
        mailer = Scripted()
        async with running(mailer) as outbox:
            for number in range(10):
                outbox.post(numbered(number))
            outbox.post(None)

            await outbox.drain()

        assert mailer.sent == [numbered(number) for number in range(10)]

    async def test_tries_again(self, caplog: pytest.LogCaptureFixture) -> None:
        def fail_twice(_message: Message, tries: int) -> None:
            if tries <= 2:
                raise ConnectionError

        mailer = Scripted(fail_twice)
        async with running(mailer) as outbox:
            outbox.post(MESSAGE)
            await outbox.drain()

        assert (mailer.sent, mailer.tries) == ([MESSAGE], 3)
        assert caplog.records == []

    @pytest.mark.parametrize("error", [ConnectionError, ValueError, RuntimeError])
    async def test_gives_up_with_a_word_that_tells_no_secret(
        self, caplog: pytest.LogCaptureFixture, error: type[Exception]
    ) -> None:
        def fail(message: Message, _tries: int) -> None:
            if message == MESSAGE:
                raise error(message.to, message.text)

        mailer = Scripted(fail)
        async with running(mailer) as outbox:
            outbox.post(MESSAGE)
            outbox.post(numbered(1))
            await outbox.drain()

        assert (mailer.sent, mailer.tries) == ([numbered(1)], 1 + 4)
        (record,) = caplog.records
        assert (record.levelno, record.message) == (logging.ERROR, "a mail could not be sent")
        assert (vars(record)["subject"], vars(record)["reason"]) == (MESSAGE.subject, error.__name__)
        assert record.exc_info is None
        assert "carol" not in repr(vars(record))
        assert "pr_" not in repr(vars(record))

    async def test_gives_up_on_a_mailer_that_hangs(self, caplog: pytest.LogCaptureFixture) -> None:
        async with running(Stuck()) as outbox:
            outbox.post(MESSAGE)
            await outbox.drain()

        assert [vars(record)["reason"] for record in caplog.records] == ["TimeoutError"]

    async def test_a_mail_that_is_tried_again_holds_up_no_other(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(mail, "PAUSES_S", (60,))
        arrived = asyncio.Event()

        def act(message: Message, _tries: int) -> None:
            if message == MESSAGE:
                raise ConnectionError
            arrived.set()

        async with running(Scripted(act)) as outbox:
            outbox.post(MESSAGE)
            outbox.post(numbered(1))

            async with asyncio.timeout(5):
                await arrived.wait()

    async def test_post_neither_waits_nor_raises_when_full(self, caplog: pytest.LogCaptureFixture) -> None:
        mailer = Scripted()
        outbox = Outbox(mailer)

        for number in range(MAX_WAITING + 2):
            outbox.post(numbered(number))

        assert [record.message for record in caplog.records] == ["a mail was dropped, because too many wait"] * 2
        assert "example.com" not in repr([vars(record) for record in caplog.records])
        worker = asyncio.create_task(outbox.run())
        await outbox.drain()
        worker.cancel()
        assert mailer.sent == [numbered(number) for number in range(MAX_WAITING)]

    async def test_draining_ends(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(mail, "DRAIN_S", 0.05)
        monkeypatch.setattr(mail, "TRY_S", 60)
        async with running(Stuck()) as outbox:
            outbox.post(MESSAGE)
            started = time.monotonic()

            await outbox.drain()

        assert 0.04 < time.monotonic() - started < 5
