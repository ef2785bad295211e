"""What is kept in memory so as not to be made again, within a bound."""

from collections.abc import Hashable
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


class Memory(Generic[Key, Value]):
    """Keeps values of up to `capacity` in all, by whatever their sizes count; what was not asked for lately goes first.

    Two generations in place of a list in order of use, which would cost more than many a value that is kept here: what
    is asked for moves to the young one, and when that holds half of the capacity, the old one is forgotten.
    """

    def __init__(self, capacity: int) -> None:
        self._half = capacity // 2
        self._young: dict[Key, tuple[Value, int]] = {}
        self._old: dict[Key, tuple[Value, int]] = {}
        self._size = 0

    def get(self, key: Key) -> Value | None:
        found = self._young.get(key)
        if found is None:
            found = self._old.pop(key, None)
            if found is None:
                return None
            self._keep(key, *found)
        return found[0]

    def put(self, key: Key, value: Value, size: int) -> None:
        """Keeps it, unless it is too large to be worth the place of so many others."""
        self._old.pop(key, None)
        if before := self._young.pop(key, None):
            self._size -= before[1]
        if size <= self._half:
            self._keep(key, value, size)

    def _keep(self, key: Key, value: Value, size: int) -> None:
        if self._size + size > self._half:
            self._old, self._young, self._size = self._young, {}, 0
        self._young[key] = (value, size)
        self._size += size
