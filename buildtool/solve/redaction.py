"""Keeping secrets out of what is told of a build to others."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from buildtool.buildfile.checks import HIDDEN, is_secret_name

LONG = 8
"""A value of so many characters is hidden wherever it stands, when only a name says that it is a secret."""
_SHORTEST = 4
_SETTING = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)([ \t]*=[ \t]*|[ \t]+)(\"[^\"\n]*\"|'[^'\n]*'|[^\s\"']+)")
_OLD_SETTING = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)([ \t]+)[^\n]*")
_SETS = re.compile(r"(?i)\s*(?:ARG|ENV|ONBUILD\s+(?:ARG|ENV))\s")
_IN_QUERY = re.compile(r"(?i)sig|signature|x-amz-.*|x-goog-.*|se|sp|sv|token|key|code|access_token")
_URL_WITH_CREDENTIALS = re.compile(r"(?i)\b([a-z][a-z0-9+.-]*://)[^/\s@]+@")


class Redaction:
    """Replaces the values of secrets by `***`, wherever they stand: as they are, and each of their longer lines."""

    def __init__(self, secrets: Iterable[bytes]) -> None:
        values: set[str] = set()
        for secret in secrets:
            text = secret.decode(errors="replace").strip()
            values |= {text, *(line.strip() for line in text.splitlines() if len(line.strip()) >= 2 * _SHORTEST)}
        self._values = sorted((value for value in values if len(value) >= _SHORTEST), key=len, reverse=True)

    def __bool__(self) -> bool:
        return bool(self._values)

    def variable(self, name: str, value: str) -> str:
        """The value of an ARG or ENV: hidden when the name is that of a secret."""
        return HIDDEN if value and is_secret_name(name) else self.text(value)

    def url(self, url: str) -> str:
        """A URL without its user and password, and with signatures and tokens of its query hidden."""
        try:
            parts = urlsplit(url)
        except ValueError:
            return self.text(url)
        if not parts.scheme or not parts.netloc:
            return self.text(url)
        query = parts.query
        pairs = parse_qsl(query, keep_blank_values=True)
        if any(_IN_QUERY.fullmatch(name) or is_secret_name(name) for name, _ in pairs):
            hidden = [(n, HIDDEN if _IN_QUERY.fullmatch(n) or is_secret_name(n) else v) for n, v in pairs]
            query = urlencode(hidden, safe="*")
        return self.text(urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, query, "")))

    def buildfile(self, text: str) -> str:
        """A Buildfile's text without the values that ARG and ENV give to variables with the names of secrets."""
        lines: list[str] = []
        inside = False
        for line in text.splitlines(keepends=True):
            keyword = _SETS.match(line)
            if inside or keyword is not None:
                begin = keyword.end() if keyword is not None and not inside else 0
                old = _OLD_SETTING.match(line, begin)
                if old is not None and not inside and is_secret_name(old[1]):
                    line = f"{line[:begin]}{old[1]}{old[2]}{HIDDEN}\n"
                else:
                    line = line[:begin] + _SETTING.sub(self._setting, line[begin:])
                inside = line.rstrip().endswith(("\\", "`"))
            lines.append(line)
        return self.text("".join(lines))

    def _setting(self, match: re.Match[str]) -> str:
        return f"{match[1]}{match[2]}{HIDDEN}" if is_secret_name(match[1]) else match[0]

    def text(self, text: str) -> str:
        """Any text."""
        for value in self._values:
            text = text.replace(value, HIDDEN)
        return _URL_WITH_CREDENTIALS.sub(r"\1", text)

    def everywhere(self, value: Any) -> Any:
        """The same document with every text in it, names too, redacted."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, dict):
            return {self.text(str(name)): self.everywhere(item) for name, item in value.items()}
        if isinstance(value, list | tuple):
            return [self.everywhere(item) for item in value]
        return value


def redaction_of(secrets: Mapping[str, bytes], build_args: Mapping[str, str | None]) -> Redaction:
    """What hides the secrets of a build, and what it was given for ARGs that are called like secrets."""
    return Redaction((*secrets.values(), *named_secrets(build_args.items())))


def named_secrets(variables: Iterable[tuple[str, str | None]]) -> Iterator[bytes]:
    """Values of variables that are called like secrets: those long enough to be hidden wherever they stand."""
    for name, value in variables:
        if value and len(value) >= LONG and is_secret_name(name):
            yield value.encode(errors="surrogateescape")
