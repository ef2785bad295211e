"""What mails about tickets say: the sum of what happened, to each in their own words, whatever people wrote."""

import re
from typing import Any

import pytest
from bson import ObjectId

from app.accounts.roles import Role
from app.events.catalog import EventType
from app.mail.message import Message, as_email
from app.notifications.kinds import Kind
from app.notifications.messages import Return, ticket_message
from app.notifications.story import Reader, Story, story_of
from tests.notifications.life import Life, person

ANN, BOB = person(username="ann"), person(Role.ADMIN, "bob")
CAROL = person(Role.CUSTOMER, "carol")
TO_ANN = Reader(ANN["id"], "ann@example.com", is_staff=True)
TO_BOB = Reader(BOB["id"], "bob@example.com", is_staff=True)
TO_CAROL = Reader(CAROL["id"], "carol@example.com", is_staff=False)
NAMES = {ANN["id"]: "Ann Smith", BOB["id"]: "Bob"}
BACK = Return("support+t.x@example.com", "https://help.example.com/unsubscribe?token=abc")
MOVED, ASSIGNED, CREATED = EventType.TICKET_STATUS_CHANGED, EventType.TICKET_ASSIGNED, EventType.TICKET_CREATED
HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "{{ 7 * 7 }} {% raw %}",
    "one\r\nBcc: eve@example.com",
    "\u202egnp.exe\u2066 \u200f\x00\x1b[2J",
    "a\u2028b\x85c\x0bd",
    "x" * 200,
    "&lt;b&gt; https://evil.example.com/",
]


def carols(**fields: Any) -> Life:
    """A ticket of Carol's that Ann works on and Bob watches."""
    return Life(**{"requester": CAROL["id"], "assignedTo": ANN["id"], "watchers": [BOB["id"]], **fields})


def story(life: Life, reader: Reader, **more: Any) -> Story:
    return story_of(reversed(life.events), life.ticket, reader, **more)


def mail(life: Life, reader: Reader) -> Message:
    return ticket_message(story(life, reader), life.ticket, reader, NAMES, BACK)


class TestStory:
    def test_is_the_sum_of_what_happened(self) -> None:
        life = carols()
        life.step(MOVED, ANN, status="In Progress", priority="High")
        life.step(MOVED, BOB, status="Resolved", priority="Medium")

        told = story(life, TO_CAROL)

        assert told.kinds == {Kind.RESOLVED}
        assert told.changes["status"] == ("Open", "Resolved")
        assert "priority" not in told.changes
        assert told.actors == ["Our team"]
        assert story(life, TO_ANN).actors == ["bob"]

    @pytest.mark.parametrize(
        ("moves", "kinds"),
        [
            (["In Progress", "Open"], set()),
            (["Resolved", "Open"], set()),
            (["Resolved", "In Progress"], {Kind.STATUS_CHANGED}),
            (["In Progress", "Resolved", "Closed"], {Kind.RESOLVED}),
            (["Closed", "Open", "Closed"], {Kind.RESOLVED}),
        ],
    )
    def test_what_came_and_went_is_not_told(self, moves: list[str], kinds: set[Kind]) -> None:
        life = carols()
        for status in moves:
            life.step(MOVED, ANN, status=status)

        assert story(life, TO_CAROL).kinds == kinds

    def test_an_opening_is_told_whatever_came_and_went(self) -> None:
        life = carols()
        life.step(CREATED, CAROL)
        life.step(MOVED, ANN, status="In Progress")
        life.step(MOVED, ANN, status="Open")

        assert story(life, TO_CAROL).kinds == {Kind.CREATED}

    def test_an_assignment_and_a_deadline_are_for_who_has_it_still(self) -> None:
        life = carols()
        life.step(ASSIGNED, CAROL, assignedTo=BOB["id"])
        life.step(EventType.SLA_BREACHED)
        assert story(life, TO_BOB).kinds == {Kind.ASSIGNED, Kind.SLA}

        life.step(ASSIGNED, BOB, assignedTo=ANN["id"])

        assert story(life, TO_BOB).kinds == set()

    def test_an_assignment_to_and_fro_is_none(self) -> None:
        life = carols(watchers=[ANN["id"]])
        life.step(MOVED, BOB, status="In Progress", assignedTo=BOB["id"])
        life.step(ASSIGNED, BOB, assignedTo=ANN["id"])

        assert story(life, TO_ANN).kinds == {Kind.STATUS_CHANGED}

    def test_customers_hear_nothing_internal(self) -> None:
        life = carols(watchers=[CAROL["id"]], assignedTo=CAROL["id"])
        life.commented(ANN, "She is wrong", internal=True)
        life.step(EventType.SLA_BREACHED, internal=True)
        assert story(life, TO_CAROL) == Story(frozenset(), {}, [], [], is_breached=False)

        life.commented(ANN, "We are on it")

        assert [(comment.author, comment.body) for comment in story(life, TO_CAROL).comments] == [
            ("Our team", "We are on it")
        ]

    def test_what_is_switched_off_is_left_out_after_the_sum_is_made(self) -> None:
        life = carols()
        life.step(MOVED, ANN, status="Resolved")
        life.step(MOVED, ANN, status="In Progress")

        assert story(life, TO_CAROL, off=[Kind.STATUS_CHANGED]).kinds == set()
        assert story(life, TO_CAROL, off=[Kind.RESOLVED]).kinds == {Kind.STATUS_CHANGED}


# fmt: off
HEADLINES = [
    (CREATED, CAROL, {}, TO_CAROL, "We have received your request"),
    (CREATED, CAROL, {}, TO_BOB, "Ticket #42 was opened"),
    (CREATED, CAROL, {}, TO_ANN, "Ticket #42 was assigned to you"),
    (ASSIGNED, ANN, {"assignedTo": BOB["id"]}, TO_BOB, "Ticket #42 was assigned to you"),
    (MOVED, ANN, {"status": "In Progress"}, TO_CAROL, "Your request is now In Progress"),
    (MOVED, ANN, {"status": "In Progress"}, TO_BOB, "Ticket #42 is now In Progress"),
    (MOVED, ANN, {"status": "Resolved"}, TO_CAROL, "Your request was resolved"),
    (MOVED, ANN, {"status": "Closed"}, TO_CAROL, "Your request was closed"),
    (MOVED, ANN, {"status": "Resolved"}, TO_BOB, "Ticket #42 was resolved"),
    (EventType.SLA_WARNING, None, {}, TO_ANN, "Ticket #42 is close to a deadline"),
    (EventType.SLA_BREACHED, None, {}, TO_ANN, "Ticket #42 has missed a deadline"),
]
# fmt: on


class TestMessage:
    @pytest.mark.parametrize(("event_type", "by", "changed", "reader", "headline"), HEADLINES)
    def test_begins_with_what_matters_most(
        self, event_type: EventType, by: Any, changed: Any, reader: Reader, headline: str
    ) -> None:
        life = carols()
        life.step(event_type, by, **changed)

        told = mail(life, reader)

        assert told.text.splitlines()[0] == headline
        assert f">{headline}</h1>" in told.html
        assert (told.to, told.subject) == (reader.address, "[#42] No paper")

    def test_says_all_to_staff(self) -> None:
        life = carols(assignedTo=None, description="The secret of the printer")
        life.step(MOVED, BOB, status="In Progress", priority="High", assignedTo=ANN["id"])
        life.commented(CAROL, "Hurry!\n\nPlease.")
        life.commented(BOB, "Leave it to Ann", internal=True)
        life.commented(None, "By machine")

        text = mail(life, TO_ANN).text

        assert text == (
            "Ticket #42 was assigned to you\n"
            "\n"
            "Ticket:      #42 No paper\n"
            "Status:      Open → In Progress\n"
            "Priority:    Medium → High\n"
            "Assigned to: nobody → Ann Smith\n"
            "By:          bob, carol\n"
            "\n"
            "carol wrote:\n"
            "\n"
            "> Hurry!\n"
            "> \n"
            "> Please.\n"
            "\n"
            "bob wrote:\n"
            "\n"
            "> Leave it to Ann\n"
            "\n"
            "A comment:\n"
            "\n"
            "> By machine\n"
            "\n"
            "-- \n"
            "You get this mail because the ticket is assigned to you.\n"
            "To get no more mails about tickets that are assigned to you: "
            "https://help.example.com/unsubscribe?token=abc\n"
        )

    def test_names_nobody_to_customers(self) -> None:
        life = carols(description="The secret of the printer")
        life.step(MOVED, ANN, status="Resolved", assignedTo=BOB["id"])
        life.commented(BOB, "It was the tray.")

        told = mail(life, TO_CAROL)

        for form in (told.text, told.html):
            assert "It was the tray." in form
            assert "Our team wrote:" in re.sub("</?bdi>", "", form)
            assert "you can reopen it within 14 days" in form
            assert not re.search("ann|bob|Smith|Assigned|secret", form, re.IGNORECASE)
        assert told.html.count("https://") == 1
        assert "because it is about a request of yours" in told.text

    def test_tells_how_many_comments(self) -> None:
        life = carols()
        life.commented(CAROL, "One")
        assert mail(life, TO_BOB).text.startswith("Ticket #42 has a new comment\n")
        life.commented(CAROL, "Two")
        assert mail(life, TO_BOB).text.startswith("Ticket #42 has 2 new comments\n")
        assert "because you watch this ticket" in mail(life, TO_BOB).text

    def test_does_without_a_number_and_a_name(self) -> None:
        life = carols(number=None, title="Old one", assignedTo=ObjectId())
        life.step(CREATED)

        told = mail(life, TO_BOB)

        assert told.subject == "[ticket] Old one"
        assert "A ticket was opened" in told.text
        assert "Assigned to: somebody who has left" in told.text

    @pytest.mark.parametrize("text", HOSTILE)
    def test_stands_what_people_write(self, text: str) -> None:
        life = carols(title=text)
        life.commented({**BOB, "username": text}, text)

        told = ticket_message(story(life, TO_ANN), life.ticket, TO_ANN, {ANN["id"]: text}, BACK)

        assert told.subject.isprintable()
        assert len(told.subject) <= len("[#42] ") + 81
        assert tags(told) == tags(mail_of_one_word())
        comment = told.text.partition("wrote:\n\n")[2].partition("\n\n-- \n")[0]
        assert all(line.startswith("> ") for line in comment.splitlines())
        hidden = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
        assert not hidden.search(told.text + told.html)
        assert "Bcc" not in as_email(told, "1", "support@example.com")

    def test_headers_put_it_into_the_ticket_s_thread(self) -> None:
        life = carols()
        life.step(CREATED, CAROL)

        email = as_email(mail(life, TO_CAROL), "6740a1f0c3b2a1d4e5f60730", "support@example.com")

        thread = f"<ticket.{life.ticket['_id']}@example.com>"
        assert {
            name: value for name, value in email.items() if name not in ("Date", "Content-Type", "MIME-Version")
        } == {
            "From": "support@example.com",
            "To": "carol@example.com",
            "Reply-To": "support+t.x@example.com",
            "Subject": "[#42] No paper",
            "Message-ID": "<6740a1f0c3b2a1d4e5f60730@example.com>",
            "Auto-Submitted": "auto-generated",
            "X-Auto-Response-Suppress": "All",
            "In-Reply-To": thread,
            "References": thread,
            "List-Unsubscribe": "<https://help.example.com/unsubscribe?token=abc>",
            "List-Unsubscribe-Post": "List-Unsubscribe=One-Click",
        }


def tags(message: Message) -> list[str]:
    """Those of the HTML, but for the line breaks of comments."""
    return [tag for tag in re.findall(r"<[^>]*>", message.html) if tag != "<br>"]


def mail_of_one_word() -> Message:
    life = carols(title="word")
    life.commented({**BOB, "username": "word"}, "word")
    return ticket_message(story(life, TO_ANN), life.ticket, TO_ANN, {ANN["id"]: "word"}, BACK)
