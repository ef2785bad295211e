"""Addresses and links that a mail carries: unforgeable, and good without anything being stored."""

import hmac
from base64 import b32encode, urlsafe_b64decode, urlsafe_b64encode

from bson import ObjectId

from .errors import InvalidUnsubscribeToken
from .kinds import Kind

# What may stand before the "@" (RFC 5321 §4.5.3.1.1).
MAX_LOCAL_PART = 64
_ID_BYTES = 12
_REPLY_PROOF_BYTES = 10
_UNSUBSCRIBE_PROOF_BYTES = 16


def reply_address(mail_from: str, ticket_id: ObjectId, key: bytes) -> str | None:
    """Where an answer to a mail about the ticket goes; None if that would be longer than an address may be."""
    proof = hmac.digest(key, b"reply" + ticket_id.binary, "sha256")[:_REPLY_PROOF_BYTES]
    # In lower case, since servers on the way may write addresses so.
    token = b32encode(ticket_id.binary + proof).decode().rstrip("=").lower()
    name, _, domain = mail_from.rpartition("@")
    local_part = f"{name}+t.{token}"
    return f"{local_part}@{domain}" if len(local_part) <= MAX_LOCAL_PART else None


def unsubscribe_url(public_url: str, user_id: ObjectId, kind: Kind, key: bytes) -> str:
    """The link by which somebody gets no more mail of this kind, signed in or not."""
    named = user_id.binary + kind.encode()
    return f"{public_url}/unsubscribe?token={_as_text(named + _unsubscribe_proof(named, key))}"


def read_unsubscribe_token(token: str, key: bytes) -> tuple[ObjectId, Kind]:
    """Who wants no more mail of which kind. Raises `InvalidUnsubscribeToken`."""
    try:
        content = urlsafe_b64decode(token.encode("ascii") + b"=" * (-len(token) % 4))
        named, proof = content[:-_UNSUBSCRIBE_PROOF_BYTES], content[-_UNSUBSCRIBE_PROOF_BYTES:]
        # The decoder skips what is not base64; only the text that we made is good.
        if _as_text(content) == token and hmac.compare_digest(proof, _unsubscribe_proof(named, key)):
            return ObjectId(named[:_ID_BYTES]), Kind(named[_ID_BYTES:].decode())
    except ValueError:
        pass
    raise InvalidUnsubscribeToken


def _unsubscribe_proof(named: bytes, key: bytes) -> bytes:
    return hmac.digest(key, b"unsubscribe" + named, "sha256")[:_UNSUBSCRIBE_PROOF_BYTES]


def _as_text(content: bytes) -> str:
    return urlsafe_b64encode(content).decode().rstrip("=")
