"""Variables: global ARGs, platform ARGs, and the ARG and ENV of one stage.

Source: ../shared/reference/build.md, table 1.2 (ARG, predefined, platform ARGs).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace

from buildtool.buildfile import expand_name, expand_word
from buildtool.buildfile.checks import HIDDEN, is_secret_name
from buildtool.buildfile.instructions import Buildfile, Word
from buildtool.errors import InvalidInput, Span
from buildtool.graph.options import PlanOptions
from buildtool.oci import Platform

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY", "ALL_PROXY")
EPOCH = "SOURCE_DATE_EPOCH"
CONTEXT_EPOCH = "context"
NOT_ENV = frozenset({"BUILDKIT_SBOM_SCAN_CONTEXT", "BUILDKIT_SBOM_SCAN_STAGE"})
"""ARGs that are no variables of any command."""
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
    if scope.get(EPOCH) == CONTEXT_EPOCH:
        del scope[EPOCH]
        if options.context_epoch is not None:
            scope[EPOCH] = str(options.context_epoch)
    return scope


def _platform_args(prefix: str, platform: Platform) -> dict[str, str]:
    return {
        f"{prefix}PLATFORM": str(platform),
        f"{prefix}OS": platform.os,
        f"{prefix}OSVERSION": "",
        f"{prefix}ARCH": platform.architecture,
        f"{prefix}VARIANT": platform.variant,
    }


def with_epoch(options: PlanOptions) -> PlanOptions:
    """The options with the build arg SOURCE_DATE_EPOCH: that of the caller when none is given, the context's time (or
    nothing) for `context`, else the commit's: who declares the ARG gets it.
    """
    if options.epoch is not None and EPOCH not in options.build_args:
        return replace(options, build_args={**options.build_args, EPOCH: str(options.epoch)})
    if EPOCH not in options.build_args and options.commit_epoch is not None:
        of_commit = {**options.build_args, EPOCH: str(options.commit_epoch)}
        return replace(options, build_args=of_commit, epoch_is_commits=True)
    if options.build_args.get(EPOCH) != CONTEXT_EPOCH:
        return options
    time = None if options.context_epoch is None else str(options.context_epoch)
    return replace(options, build_args={**options.build_args, EPOCH: time})


def source_date_epoch(scope: Scope, options: PlanOptions) -> int | None:
    """SOURCE_DATE_EPOCH: the caller's, else that of the build arg, the target stage's ARG, or the global ARG.

    Raises InvalidInput.
    """
    if options.epoch is not None:
        return options.epoch
    given = None if options.epoch_is_commits else options.build_args.get(EPOCH)
    text = given or scope.declared.get(EPOCH) or scope.globals.get(EPOCH)
    if text == CONTEXT_EPOCH:
        return options.context_epoch
    if not text:
        return None
    if not re.fullmatch(r"-?[0-9]{1,13}", text) or abs(int(text)) > 1 << 40:
        raise InvalidInput(
            f"SOURCE_DATE_EPOCH is {text!r}",
            hint="it has to be a number of seconds since 1970-01-01T00:00:00Z, or `context`",
        )
    return int(text)


@dataclass
class Scope:
    """The variables of one stage at one point. Of an ARG and an ENV of one name the later one counts.

    `env` is the image's environment, `args` the values of ARGs that no later ENV has replaced; `declared` are all
    ARGs so far with their last values ("" for none). `undefined` are the variables used where nothing defined them,
    each with the names that were defined.
    """

    globals: Mapping[str, str]
    build_args: Mapping[str, str | None]
    env: dict[str, str]
    args: dict[str, str] = field(default_factory=dict)
    declared: dict[str, str] = field(default_factory=dict)
    undefined: list[tuple[str, Span, frozenset[str]]] = field(default_factory=list)

    def child(self) -> Scope:
        """A copy for a stage that begins where this one ends; ARGs are inherited."""
        return Scope(self.globals, self.build_args, dict(self.env), dict(self.args), dict(self.declared))

    def view(self) -> dict[str, str]:
        """What `$NAME` means here: one snapshot for a whole instruction."""
        return self.env | self.args

    def expand(self, word: Word, view: Mapping[str, str] | None = None) -> str:
        """One word; variables that are not set are remembered in `undefined`."""
        return expand_word(word, self.view() if view is None else view, undefined=self.note)

    def expand_name(self, word: Word, view: Mapping[str, str]) -> str:
        """The name of an ENV or LABEL pair. Raises InvalidInput when nothing is left of it."""
        return expand_name(word, view, undefined=self.note)

    def note(self, name: str, span: Span) -> None:
        """Hear of a variable that is not set."""
        if name not in self.declared and name not in NOT_ENV:
            self.undefined.append((name, span, frozenset((*self.env, *self.args, *self.declared))))

    def set_env(self, pairs: Mapping[str, str]) -> None:
        """ENV: a variable that exists keeps its place."""
        self.env.update(pairs)
        for name in pairs:
            self.args.pop(name, None)

    def declare(self, name: str, default: Word | None) -> str | None:
        """ARG: the build arg, else the default, else the global value; None when there is none of them.

        A default that is not needed is not expanded.
        """
        value = self.build_args.get(name)
        if value is None:
            value = self.expand(default) if default is not None else self.globals.get(name)
        if value is None:
            self.declared.setdefault(name, "")
            return None
        self.declared[name] = value
        if name not in NOT_ENV:
            self.args.pop(name, None)
            self.args[name] = value
        return value

    def visible_args(self, text: str | None = None) -> tuple[tuple[str, str], ...]:
        """The ARGs a command sees, in order of declaration.

        With the `text` of the command (strict mode) only those that it names, as a whole word, and SOURCE_DATE_EPOCH.
        """
        if text is None:
            return tuple(self.args.items())
        named = {*_NAME.findall(text), EPOCH}
        return tuple(
            (name, value)
            for name, value in self.args.items()
            if name in named or (not name.isidentifier() and name in text)
        )

    def environment(self, visible: Collection[tuple[str, str]]) -> tuple[str, ...]:
        """The variables of the image that a command sees beside these ARGs."""
        names = {name for name, _ in visible}
        return tuple(f"{name}={value}" for name, value in self.env.items() if name not in names)

    def hidden_args(self, visible: Collection[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
        """The proxies that are given, or declared but not `visible`: each under its name in both cases."""
        names = {name for name, _ in visible} | self.env.keys()
        given = {**self.build_args, **self.args}
        found: dict[str, str] = {}
        for name in sorted(given.keys() & PREDEFINED):
            if (value := given[name]) is not None:
                found |= {name.upper(): value, name.lower(): value}
        return tuple((name, value) for name, value in found.items() if name not in names)

    def shown_args(self, visible: Collection[tuple[str, str]], *, strict: bool) -> list[tuple[str, str]]:
        """The ARGs that history shows for a RUN: all declared ones (in strict mode the visible ones).

        Whoever has the image can read its history, so it does not show the values of those called like secrets.
        """
        view = self.view()
        names = [name for name, _ in visible] if strict else list(self.declared)
        return [(name, shown_value(name, view.get(name, self.declared.get(name, "")))) for name in names]


def shown_value(name: str, value: str) -> str:
    """The value of an ARG as history shows it."""
    return HIDDEN if value and is_secret_name(name) else value
