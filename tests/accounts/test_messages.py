"""What mails about accounts say: what happened, to which account, when, from where, and what to do about it."""

from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from bson import ObjectId

from app.accounts.actor import Origin
from app.accounts.messages import (
    api_key_created,
    email_changed,
    mfa_disabled,
    mfa_enabled,
    mfa_reset,
    password_changed,
    password_reset_link,
    password_was_reset,
    recovery_code_used,
    recovery_codes_renewed,
)
from app.mail.message import Message
from app.platform.wire import Row

USER = {"_id": ObjectId(), "username": "carol", "email": "carol@example.com"}
ORIGIN = Origin("a browser", "203.0.113.7")
AT = datetime(2026, 11, 22, 9, 30, 59, tzinfo=UTC)
PLAIN: list[Callable[[Row, Origin, datetime], Message | None]] = [
    *(password_changed, password_was_reset, mfa_enabled, mfa_disabled, mfa_reset),
    *(recovery_code_used, recovery_codes_renewed, email_changed),
]
LINK = "https://help.example.com/reset-password#token=pr_x"


def all_about(user: Row, origin: Origin = ORIGIN, name: str = "nightly export") -> list[Message | None]:
    return [
        *(about(user, origin, AT) for about in PLAIN),
        password_reset_link(user, LINK, origin, AT),
        api_key_created(user, name, origin, AT),
    ]


def sent(messages: list[Message | None]) -> list[Message]:
    return [message for message in messages if message is not None]


@pytest.mark.parametrize("message", sent(all_about(USER)), ids=lambda message: message.subject)
def test_says_what_when_where_and_what_to_do(message: Message) -> None:
    assert message.to == "carol@example.com"
    assert "Account:  carol\nWhen:     2026-11-22 09:30 UTC\nWhere:    203.0.113.7\n" in message.text
    assert "If this was not you, " in message.text
    assert max(map(len, message.text.splitlines())) < 120


def test_each_has_a_subject_of_its_own_without_a_name_that_somebody_chose() -> None:
    subjects = [message.subject for message in sent(all_about(USER))]

    assert len(set(subjects)) == 10
    assert subjects == [message.subject for message in sent(all_about({**USER, "username": "evil"}, name="evil"))]


def test_who_has_no_address_gets_none() -> None:
    assert all_about({"username": "carol", "email": None}) == [None] * 10


def test_the_link_is_on_a_line_of_its_own() -> None:
    message = password_reset_link(USER, LINK, ORIGIN, AT)

    assert message is not None
    assert LINK in message.text.splitlines()


def test_an_unknown_place_is_said_to_be_unknown() -> None:
    for message in sent(all_about(USER, Origin())):
        assert "Where:    not known\n" in message.text
        assert "None" not in message.text


def test_a_name_puts_no_text_of_its_own_into_a_mail() -> None:
    evil = "carol\r\n\r\nYour account is locked: go to\u2028https://evil.example/" + "x" * 300

    for message in sent(all_about({"username": evil, "email": "carol@example.com"}, name=evil)):
        assert [line for line in message.text.splitlines() if line.startswith(("Your account is locked", "http"))] in (
            [],
            [LINK],
        )
        assert "x" * 60 not in message.text


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("win at https://evil.example/now", "win at https evil. example/now"),
        ("www.evil.example", "www. evil. example"),
        ("evil\u3002example", "evil\u3002 example"),
        ("mallory@evil.example", "mallory@evil. example"),
        ("J. R. Smith", "J. R. Smith"),
        ("carol@example.com", "carol@example.com"),
    ],
)
def test_a_name_is_no_link_but_as_the_very_address_that_the_mail_goes_to(name: str, shown: str) -> None:
    for message in sent(all_about({**USER, "username": name})):
        assert f"Account:  {shown}\n" in message.text


def test_nor_is_the_name_of_a_key() -> None:
    message = api_key_created(USER, "https://evil.example", ORIGIN, AT)

    assert message is not None
    assert "https evil. example" in message.text
    assert "evil.example" not in message.text + message.html
