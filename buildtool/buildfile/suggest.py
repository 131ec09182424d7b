"""Did-you-mean: the closest of the known names, when it is close enough to be a slip."""

from __future__ import annotations

from collections.abc import Iterable


def closest(word: str, known: Iterable[str]) -> str | None:
    """The known name nearest to `word`, ignoring case; None when none is within a third of its length (or 1)."""
    limit = max(1, (len(word) + 1) // 3)
    best: str | None = None
    for name in sorted(known):
        distance = _distance(word.lower(), name.lower(), limit)
        if distance <= limit:
            best, limit = name, distance - 1
            if limit < 0:
                break
    return best


def did_you_mean(word: str, known: Iterable[str], *, show: str = "{}", otherwise: str = "") -> str:
    """A hint for an error message; `otherwise` when nothing is close."""
    name = closest(word, known)
    return f"did you mean {show.format(name)}?" if name is not None else otherwise


def _distance(a: str, b: str, limit: int) -> int:
    """Edits (insert, delete, replace, swap of neighbours) from `a` to `b`; anything above `limit` when it is more."""
    if abs(len(a) - len(b)) > limit:
        return limit + 1
    before: list[int] = []
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        above, row = row, [i]
        for j, y in enumerate(b, 1):
            cost = min(above[j] + 1, row[j - 1] + 1, above[j - 1] + (x != y))
            if before and i > 1 and j > 1 and x == b[j - 2] and a[i - 2] == y:
                cost = min(cost, before[j - 2] + 1)
            row.append(cost)
        before = above
        if min(row) > limit:
            return limit + 1
    return row[-1]
