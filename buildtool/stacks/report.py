"""What running a stack tells: which thing is in which state now. Who shows it is the command line's matter."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol
else:
    Protocol = object  # `typing` costs an `up` with nothing to do a tenth of its time


class Report(Protocol):
    """Hears of everything that happens, from any thread."""

    def state(self, kind: str, name: str, state: str, detail: str = "") -> None:
        """A thing (`Container`, `Network`, `Volume`, `Image`) is now `Creating`, `Started`, `Healthy`, …"""
        ...

    def warn(self, message: str) -> None:
        """Something that the user should know."""
        ...


class Silent:
    """Hears and says nothing."""

    def state(self, kind: str, name: str, state: str, detail: str = "") -> None:
        """Nothing."""

    def warn(self, message: str) -> None:
        """Nothing."""
