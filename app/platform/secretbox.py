"""Secrets at rest: encrypted with a key that is not in the database (Fernet: AES-128-CBC and HMAC-SHA-256)."""

from collections.abc import Sequence

from cryptography.fernet import Fernet, InvalidToken, MultiFernet

_MARK = "enc:"


class SecretBox:
    """Encrypts with the newest key and reads what any of the keys wrote, so that keys can be replaced one by one."""

    def __init__(self, keys: Sequence[bytes]) -> None:
        """Keys of 32 bytes in URL-safe base64, the newest first. Raises `ValueError` for what is no such key."""
        self._newest = Fernet(keys[0])
        self._all = MultiFernet([Fernet(key) for key in keys])

    def seal(self, plain: str) -> str:
        return _MARK + self._newest.encrypt(plain.encode()).decode()

    def open(self, stored: str) -> str | None:
        """The secret; what bears no mark is taken as it is, from before there was encryption. None: no key fits."""
        if not stored.startswith(_MARK):
            return stored
        try:
            return self._all.decrypt(stored.removeprefix(_MARK)).decode()
        except (InvalidToken, ValueError):
            return None

    def is_current(self, stored: str) -> bool:
        """Whether the newest key wrote it."""
        try:
            self._newest.decrypt(stored.removeprefix(_MARK))
        except (InvalidToken, ValueError):
            return False
        return stored.startswith(_MARK)
