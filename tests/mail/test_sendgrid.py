"""SendGrid, by its own library over real HTTP: what it is sent, and what each of its answers means."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator

import pytest

from app.mail.mailers import Undelivered
from app.mail.message import Message
from app.mail.sendgrid import SendGridMailer
from tests.mail.provider import CUT, HANG, RESET, Answer, Call, Provider
from tests.services import free_port

KEY = "SG.a-key-that-nobody-should-see"
SENDER = "support@example.com"
ID = "6740a1f0c3b2a1d4e5f60718"
MESSAGE = Message(
    to="carol@example.com",
    subject="[#42] Grüße",
    text="text with a secret",
    html="<p>html with a secret</p>",
    thread="ticket.6740a1f0c3b2a1d4e5f60720",
    reply_to="support+t.token@example.com",
    unsubscribe_url="https://help.example.com/unsubscribe?token=x",
)
# How long to wait for an answer that never comes: so long that the question arrives even on a busy machine.
STEP_S = 1.0


@pytest.fixture
async def provider() -> AsyncIterator[Provider]:
    async with Provider() as provider:
        yield provider


@pytest.fixture
def mailer(provider: Provider) -> SendGridMailer:
    return SendGridMailer(KEY, provider.url, SENDER)


async def test_is_sent_the_whole_mail_and_no_more(provider: Provider, mailer: SendGridMailer) -> None:
    await mailer.send(MESSAGE, ID)

    (call,) = provider.accepted
    assert (call.method, call.path) == ("POST", "/v3/mail/send")
    assert call.headers["authorization"] == f"Bearer {KEY}"
    assert call.headers["content-type"] == "application/json"
    root = "<ticket.6740a1f0c3b2a1d4e5f60720@example.com>"
    assert call.mail == {
        "from": {"email": SENDER},
        "personalizations": [{"to": [{"email": MESSAGE.to}]}],
        "reply_to": {"email": MESSAGE.reply_to},
        "subject": MESSAGE.subject,
        "content": [{"type": "text/plain", "value": MESSAGE.text}, {"type": "text/html", "value": MESSAGE.html}],
        "headers": {
            "Message-ID": f"<{ID}@example.com>",
            "In-Reply-To": root,
            "References": root,
            "Auto-Submitted": "auto-generated",
            "X-Auto-Response-Suppress": "All",
            "List-Unsubscribe": f"<{MESSAGE.unsubscribe_url}>",
            "List-Unsubscribe-Post": "List-Unsubscribe=One-Click",
        },
        "custom_args": {"delivery": ID},
        "tracking_settings": {
            "click_tracking": {"enable": False, "enable_text": False},
            "open_tracking": {"enable": False},
        },
    }


async def test_a_mail_that_belongs_nowhere_says_so(provider: Provider, mailer: SendGridMailer) -> None:
    await mailer.send(Message(to="carol@example.com", subject="a\r\nBcc: eve@example.com", text="t", html="h"), ID)

    (call,) = provider.accepted
    assert set(call.mail["headers"]) == {"Message-ID", "Auto-Submitted", "X-Auto-Response-Suppress"}
    assert "reply_to" not in call.mail
    assert call.mail["subject"] == "a  Bcc: eve@example.com"


@pytest.mark.parametrize(
    ("answer", "is_final", "retry_after_s", "reason"),
    [
        (Answer(400, body='{"errors": [{"message": "Bad address"}]}'), True, None, "400 Bad address"),
        (Answer(401, body="{}"), True, None, "401"),
        (Answer(403, body="[1]"), True, None, "403"),
        (Answer(413, body="too large"), True, None, "413"),
        (Answer(429, {"Retry-After": "17"}), False, 17, "429"),
        (Answer(429, {"Retry-After": "-5"}), False, 0, "429"),
        (Answer(429, {"Retry-After": "soon"}), False, None, "429"),
        (Answer(429), False, None, "429"),
        (Answer(500, body='{"errors": []}'), False, None, "500"),
        (Answer(503, {"Retry-After": "2"}), False, 2, "503"),
        # Not a 202: the library follows redirects with a GET, which sends nothing.
        (Answer(200), False, None, "answered 200 instead of 202"),
        (Answer(204), False, None, "answered 204 instead of 202"),
        (Answer(RESET), False, None, "ConnectionResetError"),
        (Answer(CUT), False, None, "IncompleteRead"),
        (Answer(HANG), False, None, "TimeoutError"),
    ],
    ids=lambda value: str(value.status) if isinstance(value, Answer) else "",
)
async def test_what_an_answer_means(
    provider: Provider, mailer: SendGridMailer, answer: Answer, is_final: bool, retry_after_s: float | None, reason: str
) -> None:
    provider.act = lambda _call, _before: answer
    if answer.status == HANG:
        mailer = SendGridMailer(KEY, provider.url, SENDER, step_s=STEP_S)

    with pytest.raises(Undelivered) as caught:
        await mailer.send(MESSAGE, ID)

    assert caught.value.is_final is is_final
    assert caught.value.retry_after_s == retry_after_s
    assert caught.value.reason.startswith(reason)
    assert len(provider.calls) == 1


async def test_a_redirect_is_no_success(provider: Provider, mailer: SendGridMailer) -> None:
    def lead_away(call: Call, _before: list[Call]) -> Answer:
        return Answer(302, {"Location": f"{provider.url}/elsewhere"}) if call.method == "POST" else Answer(200)

    provider.act = lead_away

    with pytest.raises(Undelivered, match="answered 200 instead of 202"):
        await mailer.send(MESSAGE, ID)


async def test_the_end_of_a_window_is_understood_too(provider: Provider, mailer: SendGridMailer) -> None:
    provider.act = lambda _call, _before: Answer(429, {"X-RateLimit-Reset": str(int(time.time()) + 100)})

    with pytest.raises(Undelivered) as caught:
        await mailer.send(MESSAGE, ID)

    assert 50 < (caught.value.retry_after_s or 0) <= 100


async def test_nobody_there() -> None:
    mailer = SendGridMailer(KEY, f"http://127.0.0.1:{free_port()}", SENDER)

    with pytest.raises(Undelivered, match="ConnectionRefusedError") as caught:
        await mailer.send(MESSAGE, ID)

    assert not caught.value.is_final


async def test_a_hanging_provider_holds_up_nothing_else(provider: Provider, mailer: SendGridMailer) -> None:
    provider.act = lambda _call, before: Answer(HANG if len(before) < 3 else 202)
    waiting = [asyncio.create_task(mailer.send(MESSAGE, ID)) for _ in range(3)]
    await provider.until(lambda p: len(p.calls) == 3)

    # The loop goes on, and so do other mails.
    await mailer.send(MESSAGE, ID)

    assert not any(task.done() for task in waiting)
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)


async def test_neither_key_nor_mail_is_logged_at_any_level(
    provider: Provider, mailer: SendGridMailer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    provider.act = lambda _call, before: Answer(202 if before else 500)

    with pytest.raises(Undelivered):
        await mailer.send(MESSAGE, ID)
    await mailer.send(MESSAGE, ID)

    logged = repr([vars(record) for record in caplog.records])
    assert KEY not in logged
    assert "secret" not in logged
    assert MESSAGE.to not in logged
