"""When a request is tried again, and after how long. Pure but for the clock and the dice."""

from __future__ import annotations

import random
import time
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime

TRANSIENT = frozenset({408, 429, 500, 502, 503, 504})


@dataclass(frozen=True)
class RetryPolicy:
    """`attempts` in all; waits of `base`·2ⁿ seconds at most `longest`, each between half of it and the whole.

    A Retry-After longer than `patience` seconds is not waited for.
    """

    attempts: int = 5
    base: float = 0.5
    longest: float = 15.0
    patience: float = 60.0

    def delay(self, failures: int, headers: Mapping[str, str] | None = None) -> float | None:
        """Seconds to wait after so many failures (1 for the first), None to give up."""
        if failures >= self.attempts:
            return None
        asked = retry_after(headers.get("Retry-After", "")) if headers is not None else None
        if asked is not None and asked > self.patience:
            return None
        wait = min(self.longest, self.base * 2.0 ** (failures - 1))
        jittered = wait * random.uniform(0.5, 1.0)
        return jittered if asked is None else asked + jittered * 0.1


def retry_after(value: str) -> float | None:
    """Seconds from a Retry-After header (a number or a date); None when it says nothing."""
    if not value:
        return None
    if value.isascii() and value.isdigit():
        return float(value)
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, TypeError, OverflowError):
        return None
