"""The mails about tickets: what they say, and to whom they say how much of it.

The description is in none of them: anybody may open a ticket in the name of an address that is not theirs, and a
receipt must not carry a text of a stranger's to it.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bson import ObjectId

from app.mail.message import Message, subject_line
from app.mail.rendering import Templates
from app.tickets.lifecycle import Status, is_reopening
from app.tickets.policy import REOPEN_WINDOW

from .kinds import Kind
from .story import Reader, Story

_TEMPLATES = Templates(__package__ or "")

MAX_TITLE = 80
MAX_NAME = 80
NOBODY, SOMEBODY_GONE = "nobody", "somebody who has left"
# Control characters but the line break, and marks that make the text around them run the other way.
_UNSEEN = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
_LINE_BREAK = re.compile("\r\n?|[\x0b\x0c\x1c-\x1e\x85\u2028\u2029]")
_ABOUT = {
    Kind.RESOLVED: "requests that are resolved",
    Kind.SLA: "deadlines",
    Kind.ASSIGNED: "tickets that are assigned to you",
    Kind.CREATED: "new requests",
    Kind.COMMENTED: "comments",
    Kind.STATUS_CHANGED: "changes of status",
}
_WHAT_NEXT = {
    Kind.CREATED: "You will hear from us by mail as soon as there is news.",
    Kind.RESOLVED: f"If something is still wrong, you can reopen it within {REOPEN_WINDOW.days} days.",
}


@dataclass(frozen=True, slots=True)
class Return:
    """The ways back from a mail to us."""

    reply_to: str | None
    unsubscribe_url: str


def most_telling(kinds: frozenset[Kind]) -> Kind:
    """The kind that a mail of several bears the headline of, and that its link switches off."""
    return next(kind for kind in Kind if kind in kinds)


def ticket_message(
    story: Story, ticket: Mapping[str, Any], reader: Reader, names: Mapping[ObjectId, str], back: Return
) -> Message:
    """The mail that tells the reader this story of at least one kind. `names` are the assignees' by their ids."""
    kind = most_telling(story.kinds)
    is_requester = ticket["requester"] == reader.id
    title = _cut(ticket["title"], MAX_TITLE)
    subject = f"[{_number(ticket) or 'ticket'}] {title}"
    content = _TEMPLATES.render(
        "ticket",
        subject=subject,
        headline=_headline(kind, story, ticket, is_requester=is_requester),
        what_next=_WHAT_NEXT.get(kind) if is_requester else None,
        facts=_facts(story, ticket, reader, title, names),
        comments=[
            {"author": comment.author and _cut(comment.author, MAX_NAME), "body": _seen(comment.body)}
            for comment in (story.comments if Kind.COMMENTED in story.kinds else ())
        ],
        why=_why(ticket, reader),
        about=_ABOUT[kind],
        unsubscribe_url=back.unsubscribe_url,
    )
    return Message(
        to=reader.address,
        subject=subject,
        thread=f"ticket.{ticket['_id']}",
        reply_to=back.reply_to,
        unsubscribe_url=back.unsubscribe_url,
        **content,
    )


def _headline(kind: Kind, story: Story, ticket: Mapping[str, Any], *, is_requester: bool) -> str:
    number = _number(ticket)
    name = "Your request" if is_requester else f"Ticket {number}" if number else "A ticket"
    match kind:
        case Kind.CREATED:
            return "We have received your request" if is_requester else f"{name} was opened"
        case Kind.ASSIGNED:
            return f"{name} was assigned to you"
        case Kind.SLA:
            return f"{name} has missed a deadline" if story.is_breached else f"{name} is close to a deadline"
        case Kind.COMMENTED:
            count = len(story.comments)
            return f"{name} has {'a new comment' if count == 1 else f'{count} new comments'}"
        case _:
            return f"{name} {_moved(*story.changes['status'])}"


def _moved(before: str, after: str) -> str:
    if is_reopening(Status(before), Status(after)):
        return "was reopened"
    return {Status.RESOLVED: "was resolved", Status.CLOSED: "was closed"}.get(Status(after), f"is now {after}")


def _facts(
    story: Story, ticket: Mapping[str, Any], reader: Reader, title: str, names: Mapping[ObjectId, str]
) -> list[tuple[str, str]]:
    """The small table: what the ticket is now, and what it was before."""
    facts = [("Ticket", f"{_number(ticket)} {title}".strip())]
    facts += [(field.capitalize(), _move(story, ticket, field)) for field in ("status", "priority")]
    if reader.is_staff:
        before, after = story.changes.get("assignedTo", (None, ticket["assignedTo"]))
        to = _name(after, names)
        facts.append(("Assigned to", f"{_name(before, names)} → {to}" if "assignedTo" in story.changes else to))
    if story.actors:
        facts.append(("By", ", ".join(_cut(name, MAX_NAME) for name in story.actors)))
    return facts


def _move(story: Story, ticket: Mapping[str, Any], field: str) -> str:
    return " → ".join(story.changes.get(field, (ticket[field],)))


def _name(user_id: ObjectId | None, names: Mapping[ObjectId, str]) -> str:
    return NOBODY if user_id is None else _cut(names.get(user_id, SOMEBODY_GONE), MAX_NAME)


def _why(ticket: Mapping[str, Any], reader: Reader) -> str:
    if ticket["requester"] == reader.id:
        return "it is about a request of yours"
    return "the ticket is assigned to you" if ticket["assignedTo"] == reader.id else "you watch this ticket"


def _number(ticket: Mapping[str, Any]) -> str:
    """Empty for tickets of the original service, which had none."""
    return "" if ticket["number"] is None else f"#{ticket['number']}"


def _cut(text: str, length: int) -> str:
    """On one line, and no longer than that."""
    line = " ".join(subject_line(text).split())
    return line if len(line) <= length else f"{line[:length]}…"


def _seen(text: str) -> list[str]:
    """The lines of a comment, as they are meant to be read and in no other order."""
    return _UNSEEN.sub(" ", _LINE_BREAK.sub("\n", text)).strip().split("\n")
