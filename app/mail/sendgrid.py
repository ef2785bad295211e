"""Mail by SendGrid, through its own library, which blocks and so runs in threads of its own."""

import asyncio
import json
import logging
import math
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from http.client import HTTPException

import sendgrid
from python_http_client.exceptions import HTTPError
from sendgrid.helpers.mail import Content, CustomArg, Email, Header, Mail, ReplyTo, TrackingSettings
from sendgrid.helpers.mail.click_tracking import ClickTracking
from sendgrid.helpers.mail.open_tracking import OpenTracking

from .mailers import Undelivered
from .message import Message, headers, subject_line

THREADS = 8
# For each step of a call: to connect, to send, to wait for an answer.
STEP_S = 10.0
# For the call as a whole, in case the answer comes a byte at a time.
CALL_S = 30.0
ACCEPTED = 202
TOO_MANY = 429
CLIENT_ERRORS = range(400, 500)
# The name by which SendGrid's events tell which delivery they are about.
DELIVERY_ARGUMENT = "delivery"
MAX_REASON = 300

# At DEBUG it writes down the API key and the mails.
logging.getLogger("python_http_client").setLevel(logging.WARNING)


class SendGridMailer:
    """Hands mail to SendGrid's v3 API, or to what stands at `url` in its place."""

    def __init__(self, api_key: str, url: str, sender: str, *, step_s: float = STEP_S) -> None:
        self._api = sendgrid.SendGridAPIClient(api_key, host=url.rstrip("/"))
        self._api.client.timeout = step_s
        self._sender = sender
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="sendgrid")

    async def send(self, message: Message, delivery_id: str) -> None:
        call = asyncio.get_running_loop().run_in_executor(
            self._threads, self._api.send, _as_mail(message, delivery_id, self._sender)
        )
        try:
            async with asyncio.timeout(CALL_S):
                answer = await call
        except HTTPError as error:
            raise _refusal(error) from None
        except (OSError, HTTPException) as error:
            reason = getattr(error, "reason", error)
            raise Undelivered(f"{type(reason).__name__}: {reason}"[:MAX_REASON]) from None
        if answer.status_code != ACCEPTED:
            # The library follows redirects, and then asks for a page instead of sending a mail.
            raise Undelivered(f"answered {answer.status_code} instead of {ACCEPTED}")


def _as_mail(message: Message, delivery_id: str, sender: str) -> Mail:
    mail = Mail(from_email=Email(sender), to_emails=message.to, subject=subject_line(message.subject))
    mail.add_content(Content("text/plain", message.text))
    mail.add_content(Content("text/html", message.html))
    if message.reply_to is not None:
        mail.reply_to = ReplyTo(message.reply_to)
    for name, value in headers(message, delivery_id, sender).items():
        mail.add_header(Header(name, value))
    mail.add_custom_arg(CustomArg(DELIVERY_ARGUMENT, delivery_id))
    # Links to new passwords must not lead through somebody else's server, and who reads what is nobody's business.
    mail.tracking_settings = TrackingSettings(
        click_tracking=ClickTracking(enable=False, enable_text=False), open_tracking=OpenTracking(enable=False)
    )
    return mail


def _refusal(error: HTTPError) -> Undelivered:
    status = int(error.status_code)
    is_final = status in CLIENT_ERRORS and status != TOO_MANY
    return Undelivered(_reason(status, error.body), is_final=is_final, retry_after_s=_retry_after_s(error.headers))


def _reason(status: int, body: bytes | str | None) -> str:
    """SendGrid's first word on what is wrong; the status alone where it has none."""
    with suppress(ValueError, TypeError, KeyError, IndexError):
        return f"{status} {json.loads(body or '')['errors'][0]['message']}"[:MAX_REASON]
    return str(status)


def _retry_after_s(answer: Mapping[str, str] | None) -> float | None:
    """What `Retry-After` asks for, else when SendGrid's own window ends; in seconds. None if neither says."""
    for name, base in (("Retry-After", 0.0), ("X-RateLimit-Reset", time.time())):
        with suppress(ValueError, TypeError):
            seconds = float((answer or {})[name]) - base
            if math.isfinite(seconds):
                return max(0.0, seconds)
    return None
