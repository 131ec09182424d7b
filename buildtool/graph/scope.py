"""Variables: global ARGs, platform ARGs, and the ARG and ENV of one stage.

Source: ../shared/reference/build.md, table 1.2 (ARG, predefined, platform ARGs).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from buildtool.buildfile import expand_name, expand_word
from buildtool.buildfile.instructions import Buildfile, Word
from buildtool.errors import InvalidInput, Span
from buildtool.graph.options import PlanOptions
from buildtool.oci import Platform

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY", "ALL_PROXY")
EPOCH = "SOURCE_DATE_EPOCH"
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
PREDEFINED = frozenset((*_PROXIES, *(name.lower() for name in _PROXIES)))
"""ARGs that need no declaration and are part of no key and no history unless declared."""


def global_scope(buildfile: Buildfile, options: PlanOptions, target_stage: str = "") -> dict[str, str]:
    """The variables FROM sees: platform ARGs and the ARGs before the first FROM, build args applied."""
    scope = _platform_args("BUILD", options.build_platform) | _platform_args("TARGET", options.platform)
    scope["TARGETSTAGE"] = target_stage or "default"
    scope.update({name: value for name, value in options.build_args.items() if name in scope and value is not None})
    for arg in buildfile.global_args:
        for name, default in arg.pairs:
            given = options.build_args.get(name.text)
            if given is not None:
                scope[name.text] = given
            elif default is not None:
                scope[name.text] = expand_word(default, scope)
    return scope


def _platform_args(prefix: str, platform: Platform) -> dict[str, str]:
    return {
        f"{prefix}PLATFORM": str(platform),
        f"{prefix}OS": platform.os,
        f"{prefix}OSVERSION": "",
        f"{prefix}ARCH": platform.architecture,
        f"{prefix}VARIANT": platform.variant,
    }


def source_date_epoch(scope: Mapping[str, str], options: PlanOptions) -> int | None:
    """SOURCE_DATE_EPOCH: the caller's, else the build arg's or the global ARG's. Raises InvalidInput."""
    if options.epoch is not None:
        return options.epoch
    text = options.build_args.get(EPOCH) or scope.get(EPOCH)
    if not text:
        return None
    if not text.isdigit() or int(text) > 1 << 40:
        raise InvalidInput(
            f"SOURCE_DATE_EPOCH is {text!r}", hint="it has to be a number of seconds since 1970-01-01T00:00:00Z"
        )
    return int(text)


@dataclass
class Scope:
    """The variables of one stage at one point. ENV beats ARG."""

    globals: Mapping[str, str]
    build_args: Mapping[str, str | None]
    env: dict[str, str]
    args: dict[str, str] = field(default_factory=dict)
    declared: set[str] = field(default_factory=set)
    undefined: list[tuple[str, Span]] = field(default_factory=list)

    def child(self) -> Scope:
        """A copy for a stage that begins where this one ends; ARGs are inherited."""
        return Scope(self.globals, self.build_args, dict(self.env), dict(self.args), set(self.declared))

    def view(self) -> dict[str, str]:
        """What `$NAME` means here: one snapshot for a whole instruction."""
        return self.args | self.env

    def expand(self, word: Word, view: Mapping[str, str] | None = None) -> str:
        """One word; variables that are not set are remembered in `undefined`."""
        return expand_word(word, self.view() if view is None else view, undefined=self._note)

    def expand_name(self, word: Word, view: Mapping[str, str]) -> str:
        """The name of an ENV or LABEL pair. Raises InvalidInput when nothing is left of it."""
        return expand_name(word, view, undefined=self._note)

    def _note(self, name: str, span: Span) -> None:
        if name not in self.declared:
            self.undefined.append((name, span))

    def declare(self, name: str, default: str | None) -> str | None:
        """ARG: the build arg, else the default, else the global value; None when there is none of them."""
        self.declared.add(name)
        value = self.build_args.get(name)
        if value is None:
            value = default
        if value is None:
            value = self.globals.get(name)
        if value is None and name in self.args:
            return self.args[name]
        if value is not None:
            self.args.pop(name, None)
            self.args[name] = value
        return value

    def visible_args(self, text: str | None = None) -> tuple[tuple[str, str], ...]:
        """The declared ARGs a command sees: those not covered by ENV, in order of declaration.

        With the `text` of the command (strict mode) only those that it names, as a whole word, and SOURCE_DATE_EPOCH.
        """
        visible = ((name, value) for name, value in self.args.items() if name not in self.env)
        if text is None:
            return tuple(visible)
        named = {*_NAME.findall(text), EPOCH}
        return tuple(
            (name, value) for name, value in visible if name in named or (not name.isidentifier() and name in text)
        )

    def hidden_args(self, visible: Collection[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
        """The predefined ARGs (proxies) given that are not among the `visible` ones: those not declared."""
        names = {name for name, _ in visible}
        return tuple(
            (name, value)
            for name, value in {**self.build_args, **self.args}.items()
            if name in PREDEFINED and value is not None and name not in names and name not in self.env
        )
