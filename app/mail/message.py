"""What a mail is, and the headers that tell mail programs where it belongs and that no person wrote it."""

import uuid
from dataclasses import dataclass, field
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTPUTF8, EmailPolicy
from email.utils import format_datetime

from app.platform.clock import now


class _AsGiven(EmailPolicy):
    """Writes each header as it is given, on one line.

    Unfolded, because a long link would be encoded as if it were words, and be none for who looks for it; and unparsed,
    because to parse our own headers would take several times as long as all the rest of a mail.
    """

    def header_store_parse(self, name: str, value: object) -> tuple[str, str]:
        """Raises `ValueError` for more than one line."""
        text = str(value)
        if len(text.splitlines()) > 1:
            message = "a header has no CR or LF"
            raise ValueError(message)
        return name, text

    def header_fetch_parse(self, name: str, value: str) -> str:  # noqa: ARG002 - as it is
        return value

    def header_max_count(self, name: str) -> None:
        """None is set twice, and to find out which may be takes longer than to write them."""

    def fold_binary(self, name: str, value: str) -> bytes:
        return f"{name}: {value}{self.linesep}".encode()


_POLICY = _AsGiven(utf8=True, linesep=SMTPUTF8.linesep)


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """A mail to one address, as text and as HTML. Its `repr` shows neither, since they may hold a link."""

    to: str = field(repr=False)
    subject: str
    text: str = field(repr=False)
    html: str = field(repr=False)
    thread: str | None = None
    """What all mails of one conversation have in common, such as `ticket.6740a1f0c3b2a1d4e5f60718`."""
    reply_to: str | None = field(default=None, repr=False)
    unsubscribe_url: str | None = field(default=None, repr=False)
    """Where one POST ends mails of this kind (RFC 8058); None for what can't be switched off."""
    quota: str = field(default="", repr=False)
    """Whose mails about accounts are counted together: those with one subject and this in common."""


def headers(message: Message, delivery_id: str, sender: str) -> dict[str, str]:
    """The headers beside sender, recipient and subject.

    The Message-ID (RFC 5322) follows from the delivery, so that a mail that is sent again is known to be the same one.
    A thread begins with a mail that nobody has: programs put together what refers to the same one.
    """
    domain = sender.rpartition("@")[2]
    # Auto-Submitted (RFC 3834) and what Microsoft's servers heed instead: no out-of-office notes, please.
    found = {
        "Message-ID": f"<{delivery_id}@{domain}>",
        "Auto-Submitted": "auto-generated",
        "X-Auto-Response-Suppress": "All",
    }
    if message.thread is not None:
        root = f"<{message.thread}@{domain}>"
        found |= {"In-Reply-To": root, "References": root}
    if message.unsubscribe_url is not None:
        found |= {
            "List-Unsubscribe": f"<{message.unsubscribe_url}>",
            "List-Unsubscribe-Post": "List-Unsubscribe=One-Click",
        }
    return found


def subject_line(text: str) -> str:
    """On one line: a subject with a line break would be a header of somebody else's making."""
    return "".join(letter if letter.isprintable() else " " for letter in text)


def as_email(message: Message, delivery_id: str, sender: str) -> EmailMessage:
    """The mail with its headers (RFC 5322). Raises `ValueError` for an address with a line break."""
    email = EmailMessage(policy=_POLICY)
    addresses = {"From": sender, "To": message.to, "Reply-To": message.reply_to}
    for header, address in addresses.items():
        if address is not None:
            name, _, domain = address.rpartition("@")
            email[header] = Address(username=name, domain=domain)
    email["Subject"] = subject_line(message.subject)
    email["Date"] = format_datetime(now())
    for header, value in headers(message, delivery_id, sender).items():
        email[header] = value
    # Unencoded, so that a link can be copied out of a file by hand.
    email.set_content(message.text, cte="8bit")
    # By chance, so that nobody can write it into a text; to look for it there would be half of the work.
    email.make_alternative(uuid.uuid4().hex)
    email.add_alternative(message.html, subtype="html", cte="8bit")
    return email
