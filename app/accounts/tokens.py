"""Signed tokens (JWT, RFC 7519 and 9068), each kind with a key and a type of its own, and rotating refresh tokens.

All are made from one secret. None is stored: an access token names a session, and the refresh token of a session's
nth generation is a MAC over session and n, so a database dump holds nothing to sign in with.
"""

import hashlib
import hmac
import re
import time
import uuid
from base64 import urlsafe_b64encode
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any

import jwt
from bson import ObjectId
from bson.errors import InvalidId

from .errors import InvalidRefreshToken, InvalidToken

ALGORITHM = "HS256"
AUDIENCE = "ticketing"
ISSUER = "ticketing"
TOKEN_TYPE = "at+jwt"  # noqa: S105 - RFC 9068's media type
# The original's tokens lived an hour, and its clients have no other way to renew them than to sign in.
ACCESS_TTL = timedelta(hours=1)
# How far ahead the clock of another copy of the service may be; PyJWT by itself would refuse its newest tokens.
CLOCK_SKEW_S = 30
# Long enough to open a stream with; it is part of a URL, and those are written down in many places.
TICKET_TTL = timedelta(seconds=30)
TICKET_TYPE = "st+jwt"
# Between the password and the one-time code: as long as it may take to find the telephone.
MFA_TTL = timedelta(minutes=5)
MFA_TYPE = "mfa+jwt"
REQUIRED_CLAIMS = ["exp", "iat", "iss", "aud", "sub", "sid"]
MAX_REMEMBERED = 10_000
TICKET_REQUIRED_CLAIMS = ["exp", "iss", "aud", "sub", "sid", "jti", "until"]
MFA_REQUIRED_CLAIMS = ["exp", "iss", "aud", "sub", "pwv", "jti"]
_REFRESH = re.compile(r"rt_([0-9a-f]{24})_(0|[1-9][0-9]{0,8})_([A-Za-z0-9_-]{43})", re.ASCII)


@dataclass(frozen=True, slots=True)
class AccessClaims:
    """Who somebody says they are, by a good token of a session, or by an API key."""

    user_id: ObjectId
    credential_id: ObjectId
    """The session's id, or the key's."""
    expires_at: datetime
    is_api_key: bool = False


@dataclass(frozen=True, slots=True)
class TicketClaims:
    """A ticket to one live stream: whose, which one, and until when it can be used at first."""

    access: AccessClaims
    id: str
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class MfaClaims:
    """Somebody who has proved to know this account's password, as it was in this version."""

    user_id: ObjectId
    password_version: int
    id: str
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class RefreshClaims:
    session_id: ObjectId
    generation: int


def derive_key(secret: str, purpose: str) -> bytes:
    """A key of its own for each purpose, so that a value made for one is worth nothing to another."""
    return hmac.digest(secret.encode(), purpose.encode(), "sha256")


class Tokens:
    """Makes and reads tokens; says nothing about whether their session still lives."""

    def __init__(self, secret: str) -> None:
        self._access_key = secret.encode()
        self._refresh_key = derive_key(secret, "refresh-token")
        self._ticket_key = derive_key(secret, "stream-ticket")
        self._mfa_key = derive_key(secret, "mfa-token")
        # A client sends the same token for an hour, and what it says never changes.
        self._decode_access = lru_cache(MAX_REMEMBERED)(self._decode_unknown_access)

    def access(self, user_id: ObjectId, session_id: ObjectId, now: datetime) -> str:
        claims = {"sub": str(user_id), "sid": str(session_id), "iat": now, "exp": now + ACCESS_TTL}
        return _sign(claims, self._access_key, TOKEN_TYPE)

    def read_access(self, token: str) -> AccessClaims:
        """Raises `InvalidToken` for everything but an unexpired token of ours."""
        claims = self._decode_access(token)
        if claims.expires_at <= datetime.now(UTC):
            raise InvalidToken
        return claims

    def _decode_unknown_access(self, token: str) -> AccessClaims:
        claims = _read(token, self._access_key, TOKEN_TYPE, REQUIRED_CLAIMS)
        issued, expires = claims["iat"], claims["exp"]
        if not isinstance(issued, int | float) or not isinstance(expires, int | float):
            raise InvalidToken
        # None of ours lives longer, whoever got hold of the key for a moment. What is no number compares as false.
        is_short = expires - issued <= ACCESS_TTL.total_seconds()
        if not (is_short and issued <= time.time() + CLOCK_SKEW_S):
            raise InvalidToken
        return _access_claims(claims, "exp")

    def mfa(self, user_id: ObjectId, password_version: int, now: datetime) -> str:
        """What to send the one-time code with, once the password was right."""
        claims = {"sub": str(user_id), "pwv": password_version, "jti": uuid.uuid4().hex, "exp": now + MFA_TTL}
        return _sign(claims, self._mfa_key, MFA_TYPE)

    def read_mfa(self, token: str) -> MfaClaims:
        """Raises `InvalidToken`."""
        claims = _read(token, self._mfa_key, MFA_TYPE, MFA_REQUIRED_CLAIMS)
        expires_at = datetime.fromtimestamp(claims["exp"], UTC)
        return MfaClaims(ObjectId(claims["sub"]), claims["pwv"], claims["jti"], expires_at)

    def stream_ticket(self, access: AccessClaims, now: datetime) -> str:
        """A ticket for a live stream, in place of the access token, which has no place in a URL."""
        claims = {
            "sub": str(access.user_id),
            "sid": str(access.credential_id),
            "key": access.is_api_key,
            "jti": uuid.uuid4().hex,
            "exp": now + TICKET_TTL,
            "until": int(access.expires_at.timestamp()),
        }
        return _sign(claims, self._ticket_key, TICKET_TYPE)

    def read_stream_ticket(self, ticket: str) -> TicketClaims:
        """Also a ticket whose time for its first use is over. Raises `InvalidToken` if it is not one of ours."""
        claims = _read(ticket, self._ticket_key, TICKET_TYPE, TICKET_REQUIRED_CLAIMS, verify_exp=False)
        return TicketClaims(_access_claims(claims, "until"), claims["jti"], datetime.fromtimestamp(claims["exp"], UTC))

    def refresh(self, session_id: ObjectId, generation: int) -> str:
        return f"rt_{session_id}_{generation}_{self._refresh_mac(str(session_id), generation)}"

    def read_refresh(self, token: str) -> RefreshClaims:
        """Raises `InvalidRefreshToken` for everything that we did not make."""
        match = _REFRESH.fullmatch(token)
        if not match:
            raise InvalidRefreshToken
        session_id, generation, mac = match[1], int(match[2]), match[3]
        if not hmac.compare_digest(mac, self._refresh_mac(session_id, generation)):
            raise InvalidRefreshToken
        return RefreshClaims(ObjectId(session_id), generation)

    def _refresh_mac(self, session_id: str, generation: int) -> str:
        mac = hmac.digest(self._refresh_key, f"{session_id}:{generation}".encode(), hashlib.sha256)
        return urlsafe_b64encode(mac).decode().rstrip("=")


def _sign(claims: dict[str, Any], key: bytes, token_type: str) -> str:
    return jwt.encode({"iss": ISSUER, "aud": AUDIENCE, **claims}, key, ALGORITHM, headers={"typ": token_type})


def _read(token: str, key: bytes, token_type: str, required: list[str], *, verify_exp: bool = True) -> dict[str, Any]:
    """The claims of a token of this type that was signed with this key. Raises `InvalidToken`."""
    options: Any = {"require": required, "verify_iat": False, "verify_exp": verify_exp}
    try:
        decoded = jwt.decode_complete(
            token, key, algorithms=[ALGORITHM], audience=AUDIENCE, issuer=ISSUER, options=options
        )
    except (jwt.PyJWTError, ValueError, TypeError):
        raise InvalidToken from None
    if decoded["header"].get("typ") != token_type or "crit" in decoded["header"]:
        raise InvalidToken
    claims: dict[str, Any] = decoded["payload"]
    return claims


def _access_claims(claims: dict[str, Any], expiry: str) -> AccessClaims:
    try:
        expires_at = datetime.fromtimestamp(claims[expiry], UTC)
        return AccessClaims(ObjectId(claims["sub"]), ObjectId(claims["sid"]), expires_at, claims.get("key") is True)
    except (ValueError, TypeError, OverflowError, InvalidId):
        raise InvalidToken from None
