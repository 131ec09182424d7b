"""Lines of the table of figures."""

from __future__ import annotations


class Row:
    """One line of the table: seconds (or bytes) of both sides, and the wanted ratio or limit."""

    def __init__(self, what: str, ours: float, docker: float | None, wanted: float, unit: str = "ms") -> None:
        self.what, self.ours, self.docker, self.wanted, self.unit = what, ours, docker, wanted, unit

    def __str__(self) -> str:
        scale = {"ms": 1e3, "MiB": 1 / 2**20}[self.unit]
        ours = f"{self.ours * scale:9.1f} {self.unit}"
        if self.docker is None:
            good = self.ours * scale <= self.wanted
            return f"{self.what:52}{ours}{'':14}{'':8} ≤ {self.wanted:g} {self.unit}  {'ok' if good else 'MISSED'}"
        ratio = self.ours / self.docker
        docker = f"{self.docker * scale:9.1f} {self.unit}"
        verdict = "ok" if ratio <= self.wanted else "MISSED"
        return f"{self.what:52}{ours}{docker:>14}{ratio:8.2f} ≤ {self.wanted:g} ×  {verdict}"
