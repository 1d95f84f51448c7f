"""What a weight is made of and how, and whether an earlier compile has made it."""

import threading
from collections.abc import Callable

from mochi_aot.artifacts.reusable import ReusableWeight, ReusableWeights


class Origin:
    """Of one weight: found out once, by the thread that asks first, since it may have to read the checkpoint."""

    def __init__(self, reusable: ReusableWeights, name: str, source: Callable[[], str]) -> None:
        """`name` is the weight's; `source` says what it is made of and how, see weights.weight_source."""
        self._reusable, self._name, self._describe = reusable, name, source
        self._lock = threading.RLock()
        self._source: str | None = None
        self._made: ReusableWeight | None = None
        self._looked = False

    def source(self) -> str:
        """Return what it is made of and how, as a hash.

        Once the weight was made, most of that was hashed as it was read.
        """
        with self._lock:
            if self._source is None:
                self._source = self._describe()
            return self._source

    def made_before(self) -> ReusableWeight | None:
        """Return the weight as an earlier compile has made it of the same numbers.

        The checkpoint is read for that only where there is a weight of this name.
        """
        with self._lock:
            if not self._looked:
                self._looked = True
                self._made = self._reusable.find(self.source()) if self._reusable.has(self._name) else None
            return self._made
