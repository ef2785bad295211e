"""Mail as it leaves: what a mail looks like, and where development finds it."""

import asyncio
import email
import re
from email.message import EmailMessage
from email.policy import default
from pathlib import Path

import pytest
from jinja2 import UndefinedError

from app.mail.mailers import ConsoleMailer, FileMailer
from app.mail.message import Message, as_email
from app.mail.rendering import Templates
from tests.mailbox import text_of

SENDER = "support@example.com"
LINK = "https://help.example.com/reset-password#token=pr_" + "x" * 43
ID = "6740a1f0c3b2a1d4e5f60718"


def message(to: str = "carol@example.com", subject: str = "Your password was changed", **more: str) -> Message:
    return Message(to=to, subject=subject, text=f"Grüße,\n\n{LINK}\n", html=f"<p>Grüße</p><p>{LINK}</p>", **more)


MESSAGE = message()


def read(content: bytes) -> EmailMessage:
    return email.message_from_bytes(content, policy=default)


def files_in(directory: Path) -> list[Path]:
    return sorted(directory.iterdir())


class TestMessage:
    def test_says_from_whom_to_whom_and_what(self) -> None:
        content = as_email(MESSAGE, ID, SENDER).as_bytes()

        parsed = read(content)
        assert (parsed["From"], parsed["To"], parsed["Subject"]) == (SENDER, MESSAGE.to, MESSAGE.subject)
        assert parsed["Auto-Submitted"] == "auto-generated"
        assert parsed["X-Auto-Response-Suppress"] == "All"
        assert parsed["Message-ID"] == f"<{ID}@example.com>"
        assert [parsed[name] for name in ("References", "Reply-To", "List-Unsubscribe")] == [None] * 3
        assert parsed["Date"].datetime.tzinfo is not None
        assert [part.get_content_type() for part in parsed.iter_parts()] == ["text/plain", "text/html"]
        assert text_of(parsed).replace("\r\n", "\n") == MESSAGE.text
        assert list(parsed.iter_parts())[1].get_content().strip() == MESSAGE.html
        # To be copied by hand, so neither wrapped nor encoded.
        assert LINK in content.decode().splitlines()

    @pytest.mark.parametrize(
        "evil", ["a\r\nBcc: eve@example.com", "a\nBcc: eve@example.com", "a\x00\x1b[31m", "a\u2028b"]
    )
    def test_a_subject_makes_no_header(self, evil: str) -> None:
        content = as_email(message(subject=evil), ID, SENDER).as_bytes()

        parsed = read(content)
        assert "Bcc" not in parsed
        assert parsed["Subject"].isprintable()
        assert content.partition(b"\r\n\r\n")[0].count(b"eve@example.com") == evil.count("eve")

    @pytest.mark.parametrize("evil", ["a@b.example\r\nBcc: eve@example.com", "a\nb@c.example"])
    def test_an_address_makes_no_header(self, evil: str) -> None:
        with pytest.raises(ValueError, match="CR or LF"):
            as_email(message(to=evil), ID, SENDER)

    def test_one_address_is_one_recipient(self) -> None:
        parsed = read(as_email(message(to="eve@example.com,carol@example.com"), ID, SENDER).as_bytes())

        assert len(parsed["To"].addresses) == 1

    def test_says_where_it_belongs_and_how_to_get_no_more(self) -> None:
        link = "https://help.example.com/unsubscribe?token=" + "x" * 80
        mail = message(thread="ticket.7", reply_to="support+t.x@example.com", unsubscribe_url=link)

        content = as_email(mail, ID, SENDER).as_bytes()

        assert f"\r\nList-Unsubscribe: <{link}>\r\n".encode() in content
        parsed = read(content)

        assert parsed["In-Reply-To"] == parsed["References"] == "<ticket.7@example.com>"
        assert parsed["Reply-To"] == "support+t.x@example.com"
        assert parsed["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"

    def test_shows_neither_address_nor_text(self) -> None:
        assert repr(MESSAGE) == "Message(subject='Your password was changed', thread=None)"


class TestConsole:
    async def test_shows_the_whole_mail(
        self, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
    ) -> None:
        await ConsoleMailer(SENDER).send(MESSAGE, ID)

        shown = capsys.readouterr().out
        assert f"To: {MESSAGE.to}" in shown
        assert LINK in shown
        assert caplog.records == []


class TestFiles:
    async def test_each_mail_is_a_private_file(self, tmp_path: Path) -> None:
        directory = tmp_path / "some" / "mail"
        mailer = FileMailer(directory, SENDER)

        await mailer.send(MESSAGE, ID)
        await mailer.send(MESSAGE, ID[::-1])

        files = files_in(directory)
        assert len(files) == 2
        for file in files:
            assert re.fullmatch(r"\d{8}T\d{6}\.\d{6}-[0-9a-f]{24}\.eml", file.name)
            assert file.stat().st_mode & 0o777 == 0o600
            assert read(file.read_bytes())["To"] == MESSAGE.to
        assert directory.stat().st_mode & 0o777 == 0o700

    async def test_is_there_whole_or_not_at_all(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def fail(_self: Path, _target: Path) -> None:
            raise OSError

        monkeypatch.setattr(Path, "rename", fail)

        with pytest.raises(OSError, match=r"^$"):
            await FileMailer(tmp_path, SENDER).send(MESSAGE, ID)

        assert files_in(tmp_path) == []

    async def test_of_many_at_once_one_that_can_not_be_written_stops_no_other(self, tmp_path: Path) -> None:
        mailer = FileMailer(tmp_path, SENDER)

        outcomes = await asyncio.gather(
            *(mailer.send(MESSAGE, name) for name in (ID, "no/such/directory", ID[::-1])), return_exceptions=True
        )

        assert [type(outcome) for outcome in outcomes] == [type(None), FileNotFoundError, type(None)]
        assert {file.stem.partition("-")[2] for file in files_in(tmp_path)} == {ID, ID[::-1]}

    async def test_says_when_it_can_not(self, tmp_path: Path) -> None:
        (tmp_path / "mail").touch()

        with pytest.raises(FileExistsError):
            await FileMailer(tmp_path / "mail", SENDER).send(MESSAGE, ID)


class TestTemplates:
    def test_escape_in_html_alone(self) -> None:
        evil = "<script>alert(1)</script>"
        values = dict.fromkeys(("happened", "otherwise", "account", "when", "where", "about_link"), evil)

        found = Templates("app.accounts").render("notice", subject=evil, link=None, **values)

        assert found["text"].count(evil) == 5
        assert evil not in found["html"]
        assert "&lt;script&gt;" in found["html"]

    def test_want_every_value(self) -> None:
        with pytest.raises(UndefinedError):
            Templates("app.accounts").render("notice", subject="Only this")
