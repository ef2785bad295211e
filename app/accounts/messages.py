"""The mails about accounts: who gets them, and what they say."""

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from app.mail.message import Message
from app.mail.rendering import Templates

from .actor import Origin, username_of

_TEMPLATES = Templates(__package__ or "")

MAX_ADDRESS = 254
# Stricter than what an account may hold: nothing that has a meaning in a header.
_ADDRESS = re.compile(r"""[^\s@,;:<>()\[\]\\"]+@[^\s@,;:<>()\[\]\\".]+(\.[^\s@,;:<>()\[\]\\".]+)+""")
# Who chooses a name must not be able to put much of a text into our mails, nor what mail programs make a link of.
_MAX_NAME = 80
_INSIDE_A_HOST = re.compile(r"(?<=\w)([.\u3002\uff0e\uff61])(?=\w)")
_TAKE_BACK = "ask for a new password at once, which ends all sessions, and tell an administrator."
_TELL = "tell an administrator at once."


def address_of(user: Mapping[str, Any]) -> str | None:
    """Where an account's mail goes: to its e-mail, else to a username that is an address; None: nowhere."""
    for text in (user.get("email"), user.get("username")):
        if isinstance(text, str) and len(text) <= MAX_ADDRESS and text.isprintable() and _ADDRESS.fullmatch(text):
            return text
    return None


def password_reset_link(user: Mapping[str, Any], link: str, origin: Origin, now: datetime) -> Message | None:
    happened = "Somebody asked for a new password for your account. To choose one, open this link within an hour:"
    otherwise = "do nothing: your password stays as it is."
    return _mail(user, "Choose a new password", happened, otherwise, origin, now, link=link)


def password_changed(user: Mapping[str, Any], origin: Origin, now: datetime) -> Message | None:
    happened = "The password of your account was changed, and all its other sessions were ended."
    return _mail(user, "Your password was changed", happened, _TAKE_BACK, origin, now)


def password_was_reset(user: Mapping[str, Any], origin: Origin, now: datetime) -> Message | None:
    happened = "A new password was set for your account by a link from a mail, and all its sessions were ended."
    return _mail(user, "Your password was reset", happened, _TAKE_BACK, origin, now)


def mfa_enabled(user: Mapping[str, Any], origin: Origin, now: datetime) -> Message | None:
    happened = "Multi-factor authentication was turned on for your account."
    return _mail(user, "Multi-factor authentication was turned on", happened, _TELL, origin, now)


def mfa_disabled(user: Mapping[str, Any], origin: Origin, now: datetime) -> Message | None:
    happened = "Multi-factor authentication was turned off for your account: a password is now enough to sign in."
    return _mail(user, "Multi-factor authentication was turned off", happened, _TAKE_BACK, origin, now)


def mfa_reset(user: Mapping[str, Any], origin: Origin, now: datetime) -> Message | None:
    happened = "An administrator turned multi-factor authentication off for your account. Set it up again."
    return _mail(user, "Multi-factor authentication was reset", happened, _TELL, origin, now)


def recovery_code_used(user: Mapping[str, Any], origin: Origin, now: datetime) -> Message | None:
    happened = "One of your recovery codes was used in place of a one-time code. It can't be used again."
    return _mail(user, "A recovery code was used", happened, _TAKE_BACK, origin, now)


def recovery_codes_renewed(user: Mapping[str, Any], origin: Origin, now: datetime) -> Message | None:
    happened = "New recovery codes were made for your account. The ones from before can't be used any more."
    return _mail(user, "Your recovery codes were renewed", happened, _TAKE_BACK, origin, now)


def email_changed(before: Mapping[str, Any], origin: Origin, now: datetime) -> Message | None:
    """To the address that was in force before: the new one may be a thief's."""
    happened = "The e-mail address of your account was changed. Mail about it no longer comes here."
    return _mail(before, "Your e-mail address was changed", happened, _TELL, origin, now)


def api_key_created(user: Mapping[str, Any], name: str, origin: Origin, now: datetime) -> Message | None:
    happened = f"A new API key was made for your account: {_shown(name)}"
    return _mail(user, "A new API key was made", happened, f"delete it, {_TAKE_BACK}", origin, now)


def _mail(
    user: Mapping[str, Any],
    subject: str,
    happened: str,
    otherwise: str,
    origin: Origin,
    now: datetime,
    *,
    link: str | None = None,
) -> Message | None:
    address = address_of(user)
    if address is None:
        return None
    name = username_of(user)
    content = _TEMPLATES.render(
        "notice",
        subject=subject,
        happened=happened,
        otherwise=otherwise,
        link=link,
        about_link="It is good once, and only until you ask for another.",
        account=name if name == address else _shown(name),
        when=f"{now:%Y-%m-%d %H:%M} UTC",
        where=origin.address or "not known",
    )
    return Message(to=address, subject=subject, quota=_quota_of(user, address), **content)


def _quota_of(user: Mapping[str, Any], address: str) -> str:
    """Whose quota a mail is taken from: the account's own where the address is surely its own, else the address's.

    So nobody fills a stranger's mailbox by way of many accounts, nor keeps the owner's warnings away with them. An
    address is the account's own once a link was used that went there; and a name that is an address is one account's.
    """
    if address in (user.get("provenAddress"), user.get("username")):
        return str(user["_id"])
    local, _, domain = address.casefold().rpartition("@")
    return f"{local.partition('+')[0]}@{domain}"


def _shown(name: str) -> str:
    line = "".join(letter if letter.isprintable() else " " for letter in name).replace("://", " ")
    line = _INSIDE_A_HOST.sub(r"\1 ", line)
    return line if len(line) <= _MAX_NAME else f"{line[:_MAX_NAME]}…"
