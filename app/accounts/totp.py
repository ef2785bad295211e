"""Time-based one-time codes (RFC 6238: SHA-1, 6 digits, 30 s), without I/O."""

import hmac
from base64 import b32decode
from datetime import datetime

import pyotp

STEP_S = 30
DRIFT_STEPS = 1
DIGITS = 6


# RFC 4226 asks for 160 bits.
SECRET_DIGITS = 32
ISSUER = "Ticketing"


def new_secret() -> str:
    """160 random bits in base32."""
    return pyotp.random_base32(SECRET_DIGITS)


def otpauth_uri(secret: str, username: str) -> str:
    """What authenticators read from a QR code (Key Uri Format)."""
    return pyotp.TOTP(secret, digits=DIGITS, interval=STEP_S).provisioning_uri(name=username, issuer_name=ISSUER)


def matching_step(secret: str, code: str, now: datetime) -> int | None:
    """The time step whose code this is, one step of clock drift allowed either way; None when it is no such code.

    The caller accepts each step once, by keeping the last one.
    """
    key = _key_of(secret)
    if key is None or not code.isascii():
        return None
    current = int(now.timestamp()) // STEP_S
    steps = range(current - DRIFT_STEPS, current + DRIFT_STEPS + 1)
    found = [step for step in steps if hmac.compare_digest(code_at(key, step), code)]
    return found[-1] if found else None


class _AnyLength(pyotp.TOTP):
    """pyotp without its minimum of 112 bits: the secrets of older authenticator set-ups have 80."""

    def __init__(self, key: bytes) -> None:
        self._key = key  # first, since pyotp asks for it as it starts
        super().__init__("", digits=DIGITS, interval=STEP_S)

    def byte_secret(self) -> bytes:
        return self._key


def code_at(key: bytes, step: int) -> str:
    """The code of one time step (RFC 4226 §5.3)."""
    return _AnyLength(key).generate_otp(step)


def _key_of(secret: str) -> bytes | None:
    """The key from base32 as people copy it: any case, blanks, padding or none. None for what is no key at all."""
    text = "".join(secret.split()).rstrip("=")
    try:
        return b32decode(text + "=" * (-len(text) % 8), casefold=True) or None
    except ValueError:
        return None
