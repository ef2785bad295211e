"""The two kinds of token: a signed access token (JWT, RFC 7519 and 9068) and a rotating refresh token.

Both are made from one secret. Neither is stored: an access token names a session, and the refresh token of a
session's nth generation is a MAC over session and n, so a database dump holds nothing to sign in with.
"""

import hashlib
import hmac
import re
import time
from base64 import urlsafe_b64encode
from dataclasses import dataclass
from datetime import datetime, timedelta

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
REQUIRED_CLAIMS = ["exp", "iat", "iss", "aud", "sub", "sid"]
_REFRESH = re.compile(r"rt_([0-9a-f]{24})_(0|[1-9][0-9]{0,8})_([A-Za-z0-9_-]{43})", re.ASCII)


@dataclass(frozen=True, slots=True)
class AccessClaims:
    user_id: ObjectId
    session_id: ObjectId


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

    def access(self, user_id: ObjectId, session_id: ObjectId, now: datetime) -> str:
        claims = {
            "iss": ISSUER,
            "aud": AUDIENCE,
            "sub": str(user_id),
            "sid": str(session_id),
            "iat": now,
            "exp": now + ACCESS_TTL,
        }
        return jwt.encode(claims, self._access_key, ALGORITHM, headers={"typ": TOKEN_TYPE})

    def read_access(self, token: str) -> AccessClaims:
        """Raises `InvalidToken` for everything but an unexpired token of ours."""
        try:
            decoded = jwt.decode_complete(
                token,
                self._access_key,
                algorithms=[ALGORITHM],
                audience=AUDIENCE,
                issuer=ISSUER,
                options={"require": REQUIRED_CLAIMS, "verify_iat": False},
            )
            claims = decoded["payload"]
            if decoded["header"].get("typ") != TOKEN_TYPE or "crit" in decoded["header"]:
                raise InvalidToken
            if claims["iat"] > time.time() + CLOCK_SKEW_S:
                raise InvalidToken
            return AccessClaims(ObjectId(claims["sub"]), ObjectId(claims["sid"]))
        except (jwt.PyJWTError, ValueError, TypeError, InvalidId):
            raise InvalidToken from None

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
