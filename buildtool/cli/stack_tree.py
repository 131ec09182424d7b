"""Progress on a terminal: a tree of what is brought up, with states, times and the last line of each container."""

from __future__ import annotations

import sys
import threading
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rich.tree import Tree

_DONE = frozenset(
    (
        "Running",
        "Created",
        "Started",
        "Healthy",
        "Exited",
        "Stopped",
        "Removed",
        "Recreated",
        "Built",
        "Pulled",
        "Killed",
    )
)
# A container in these states is on its way, unless that is all that was asked for.
_MADE = frozenset(("Created", "Recreated"))
# What every container of a new stack would say.
_UNSAID = frozenset(("the service is new", "it does not exist"))
_MARKS = {"done": ("✔", "green"), "busy": ("●", "cyan"), "made": ("○", "cyan"), "other": ("!", "yellow")}
_FAILED = "Error"
_WORTH_TELLING = 0.1  # seconds
_GROUPS = {"Network": "networks", "Volume": "volumes", "Image": "images", "Container": "services"}


class TreeReport:
    """Redraws the tree whenever something changes; what happened last stays on the screen."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.live import Live

        self._lock = threading.Lock()
        self._items: dict[tuple[str, str], tuple[str, str, float, float]] = {}
        self._warnings: list[str] = []
        self._lines: dict[str, str] = {}
        self._live = Live(console=Console(file=sys.stderr), refresh_per_second=12, transient=False)
        self._begun = False

    def state(self, kind: str, name: str, state: str, detail: str = "") -> None:
        """A thing is now in this state."""
        with self._lock:
            now = time.monotonic()
            known = self._items.get((kind, name))
            first = known[2] if known is not None else now
            self._items[kind, name] = (
                state,
                detail or (known[1] if known and state not in ("Healthy", "Exited", "Started", _FAILED) else ""),
                first,
                now,
            )
            if not self._begun:
                self._begun = True
                self._live.start()
            self._live.update(self._tree())

    def line(self, name: str, text: str) -> None:
        """A container has said something."""
        with self._lock:
            if not self._begun or not text.strip():
                return
            self._lines[name] = text.strip()
            self._live.update(self._tree())

    def warn(self, message: str) -> None:
        """Shown below the tree."""
        with self._lock:
            self._warnings.append(message)

    def close(self) -> None:
        """Leave the last state on the screen."""
        with self._lock:
            if self._begun:
                self._live.update(self._tree(final=True))
                self._live.stop()
                self._begun = False
            for message in self._warnings:
                print(f"WARNING: {message}", file=sys.stderr)
            self._warnings.clear()

    def _tree(self, *, final: bool = False) -> Tree:
        from rich.text import Text
        from rich.tree import Tree

        final = final and not any(item[0] == _FAILED for item in self._items.values())
        marks = {key: _mark(key[0], state, final=final) for key, (state, *_) in self._items.items()}
        done = sum(mark == "done" for mark in marks.values())
        tree = Tree(Text.assemble(("Stack", "bold"), f" {done}/{len(self._items)}"), guide_style="dim")
        for kind, group in _GROUPS.items():
            members = [(key, item) for key, item in self._items.items() if key[0] == kind]
            if not members:
                continue
            branch = tree.add(Text(group, style="dim"))
            for key, (state, detail, first, last) in members:
                took = (last if marks[key] == "done" else time.monotonic()) - first
                line = Text.assemble(_MARKS[marks[key]], f" {key[1]}  {state}", no_wrap=True, overflow="ellipsis")
                if took >= _WORTH_TELLING:
                    line.append(f" {took:.1f}s", "dim")
                if detail and detail not in _UNSAID:
                    line.append(f" {detail}", "dim")
                leaf = branch.add(line)
                if kind == "Container" and key[1] in self._lines:
                    leaf.add(Text(self._lines[key[1]][:200], style="dim", no_wrap=True, overflow="ellipsis"))
        return tree


def _mark(kind: str, state: str, *, final: bool) -> str:
    if kind == "Container" and state in _MADE and not final:
        return "made"
    return "done" if state in _DONE else "busy" if state.endswith("ing") else "other"
