"""Recovery codes, for who has lost the authenticator: ten, good once each, kept as digests."""

import hashlib
import secrets

CODES = 10
GROUPS, GROUP_SIZE = 4, 4
# Crockford's base 32, without the letters that are taken for digits. 16 digits are 80 bits: a digest can't be undone
# by trying, so it needs no slow hash.
_DIGITS = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_MISREAD = str.maketrans("OIL", "011", "- ")


def new_codes() -> list[str]:
    """Ten codes such as `7K2M-04QX-9ZTB-H1CD`."""
    return ["-".join(_group() for _ in range(GROUPS)) for _ in range(CODES)]


def code_digest(code: str) -> str:
    """What is stored of a code, however it was typed: any case, blanks, hyphens, O for 0, I and L for 1."""
    return hashlib.sha256(code.upper().translate(_MISREAD).encode()).hexdigest()


def _group() -> str:
    return "".join(secrets.choice(_DIGITS) for _ in range(GROUP_SIZE))
