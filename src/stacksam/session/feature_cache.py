"""A bounded cache of encoded frames."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable

from stacksam.network.sam2 import Features

__all__ = ["FeatureCache"]


class FeatureCache:
    """Features of recently seen views, bounded in bytes; the least recently used go first.

    Parameters
    ----------
    max_bytes : int
        Largest size in all. A single entry larger than that is not kept.
    """

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.bytes = 0
        self._entries: OrderedDict[Hashable, tuple[int, Features]] = OrderedDict()

    def get(self, key: Hashable) -> Features | None:
        """Features stored under `key`, or None."""
        if key not in self._entries:
            return None
        self._entries.move_to_end(key)
        return self._entries[key][1]

    def put(self, key: Hashable, features: Features) -> None:
        """Keep `features`, and drop the oldest until they fit."""
        size = sum(level.element_size() * level.nelement() for level in features)
        if key in self._entries:
            self.bytes -= self._entries.pop(key)[0]
        if size > self.max_bytes:
            return
        self._entries[key] = (size, features)
        self.bytes += size
        self.limit(self.max_bytes)

    def limit(self, max_bytes: int) -> None:
        """Set the bound, and drop the oldest until all fit."""
        self.max_bytes = max_bytes
        while self.bytes > self.max_bytes:
            _, (dropped, _) = self._entries.popitem(last=False)
            self.bytes -= dropped

    def clear(self) -> None:
        """Forget everything."""
        self._entries.clear()
        self.bytes = 0
