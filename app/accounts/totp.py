"""Time-based one-time codes (RFC 6238: SHA-1, 6 digits, 30 s), without I/O."""

import hmac
from datetime import datetime

import pyotp

STEP_S = 30
DRIFT_STEPS = 1


def matching_step(secret: str, code: str, now: datetime) -> int | None:
    """The time step whose code this is, one step of clock drift allowed either way; None when it is no such code.

    The caller accepts each step once, by keeping the last one.
    """
    try:
        totp = pyotp.TOTP(secret, interval=STEP_S)
        current = int(now.timestamp()) // STEP_S
        steps = range(current - DRIFT_STEPS, current + DRIFT_STEPS + 1)
        found = [step for step in steps if hmac.compare_digest(totp.generate_otp(step), code)]
    except (ValueError, TypeError):  # no base32 secret, no ASCII code
        return None
    return found[-1] if found else None
