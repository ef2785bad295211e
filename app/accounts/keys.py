"""API keys as text: a prefix that scanners for leaked secrets recognise, random digits, and a checksum.

`tkt_` + 32 digits of base 62 (190 bits) + 6 digits of base 62 that are the CRC-32 of what stands before them.
"""

import hashlib
import re
import secrets
import string
import zlib

PREFIX = "tkt_"
RANDOM_DIGITS, CHECK_DIGITS, HINT_DIGITS = 32, 6, 4
_DIGITS = string.digits + string.ascii_uppercase + string.ascii_lowercase
_KEY = re.compile(rf"{PREFIX}[0-9A-Za-z]{{{RANDOM_DIGITS + CHECK_DIGITS}}}", re.ASCII)


def new_key() -> str:
    body = PREFIX + "".join(secrets.choice(_DIGITS) for _ in range(RANDOM_DIGITS))
    return body + _checksum(body)


def is_key(text: str) -> bool:
    """Whether the text has the form of a key, checksum included; a slip of the pen costs no look at the database."""
    return bool(_KEY.fullmatch(text)) and text[-CHECK_DIGITS:] == _checksum(text[:-CHECK_DIGITS])


def key_digest(key: str) -> bytes:
    """What is stored of it."""
    return hashlib.sha256(key.encode()).digest()


def _checksum(body: str) -> str:
    number, digits = zlib.crc32(body.encode()), ""
    for _ in range(CHECK_DIGITS):
        number, digit = divmod(number, len(_DIGITS))
        digits = _DIGITS[digit] + digits
    return digits
