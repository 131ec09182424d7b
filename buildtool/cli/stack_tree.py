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
_MARKS = {"done": "[green]✔[/]", "busy": "[cyan]●[/]", "other": "[yellow]![/]"}
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
                detail or (known[1] if known and state not in ("Healthy", "Exited") else ""),
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
                self._live.update(self._tree())
                self._live.stop()
                self._begun = False
            for message in self._warnings:
                print(f"WARNING: {message}", file=sys.stderr)
            self._warnings.clear()

    def _tree(self) -> Tree:
        from rich.markup import escape
        from rich.tree import Tree

        done = sum(state in _DONE for state, _, _, _ in self._items.values())
        tree = Tree(f"[bold]Stack[/] {done}/{len(self._items)}", guide_style="dim")
        for kind, group in _GROUPS.items():
            members = [(name, item) for (one, name), item in self._items.items() if one == kind]
            if not members:
                continue
            branch = tree.add(f"[dim]{group}[/]")
            for name, (state, detail, first, last) in members:
                mark = _MARKS["done" if state in _DONE else "busy" if state.endswith("ing") else "other"]
                end = last if state in _DONE else time.monotonic()
                why = f" [dim]{escape(detail)}[/]" if detail else ""
                leaf = branch.add(f"{mark} {escape(name)}  {escape(state)} [dim]{end - first:.1f}s[/]{why}")
                if kind == "Container" and name in self._lines:
                    leaf.add(f"[dim]{escape(self._lines[name][:200])}[/]")
        return tree
