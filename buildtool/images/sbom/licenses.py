"""Licenses as the databases name them, as SPDX license expressions.

Source: SPDX specification 2.3, annex D (license expressions); Debian's copyright format 1.0 for the short names.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from buildtool.images.sbom.license_list import EXCEPTIONS, IDS

_TOKEN = re.compile(r"\(|\)|[^\s()]+")
_NOT_ALLOWED = re.compile(r"[^0-9A-Za-z.-]+")
_IDS = {name.lower(): name for name in IDS}
_EXCEPTIONS = {name.lower(): name for name in EXCEPTIONS}
_OPERATORS = {"and": "AND", "or": "OR", "with": "WITH"}
_GNU = re.compile(r"(agpl|gfdl|gpl|lgpl)-(\d(?:\.\d)?)(\+?)")
_USUAL = {
    "apache 2.0": "Apache-2.0",
    "apache license 2.0": "Apache-2.0",
    "apache license, version 2.0": "Apache-2.0",
    "apache software license": "Apache-2.0",
    "apache-2": "Apache-2.0",
    "asl 2.0": "Apache-2.0",
    "artistic": "Artistic-1.0-Perl",
    "artistic-2": "Artistic-2.0",
    "bsd-2-clause": "BSD-2-Clause",
    "bsd-3-clause": "BSD-3-Clause",
    "bsd-4-clause": "BSD-4-Clause",
    "expat": "MIT",
    "isc license (iscl)": "ISC",
    "mit license": "MIT",
    "mozilla public license 2.0 (mpl 2.0)": "MPL-2.0",
    "mpl-2": "MPL-2.0",
    "psf": "PSF-2.0",
    "python software foundation license": "PSF-2.0",
    "zlib/libpng": "Zlib",
}


@dataclass(frozen=True, slots=True)
class Licenses:
    """An expression of which all must be kept to, and the licenses in it that SPDX has no identifier for."""

    expression: str
    unknown: tuple[tuple[str, str], ...] = ()
    """Pairs of a LicenseRef-… and the name that the database gives."""


def declared(names: tuple[str, ...]) -> Licenses | None:
    """What a package says it may be used under; None when it says nothing."""
    found = list(dict.fromkeys(_expression(name) for name in names if name.strip()))
    if not found:
        return None
    unknown = dict(pair for each in found for pair in each.unknown)
    parts = list(dict.fromkeys(each.expression for each in found))
    text = " AND ".join(f"({part})" if len(parts) > 1 and _is_open(part) else part for part in parts)
    return Licenses(text, tuple(sorted(unknown.items())))


def license_id(name: str) -> str | None:
    """The SPDX identifier of a license, however it is called; None for one that has none."""
    key = name.strip().lower()
    match = _GNU.fullmatch(key)
    if match is not None:  # the names without "only" or "or-later" are SPDX's too, but not to be used any more
        number = match[2] if "." in match[2] else f"{match[2]}.0"
        key = f"{match[1]}-{number}-{'or-later' if match[3] else 'only'}"
    return _IDS.get(key) or _USUAL.get(key)


def _is_open(expression: str) -> bool:
    """Whether an operator stands outside all brackets."""
    depth = 0
    for token in _TOKEN.findall(expression):
        depth += (token == "(") - (token == ")")
        if not depth and token in ("AND", "OR", "WITH"):
            return True
    return False


def _expression(name: str) -> Licenses:
    known = license_id(name)
    if known is not None:
        return Licenses(known)
    tokens = [_term(token) for token in _TOKEN.findall(name)]
    if len(tokens) > 1 and all(tokens) and _is_expression([str(token) for token in tokens]):
        return Licenses(" ".join(str(token) for token in tokens).replace("( ", "(").replace(" )", ")"))
    reference = f"LicenseRef-{_NOT_ALLOWED.sub('-', name).strip('-.') or 'unnamed'}"
    return Licenses(reference, ((reference, name),))


def _term(token: str) -> str | None:
    key = token.lower()
    if token in "()" or key in _OPERATORS:
        return _OPERATORS.get(key, token)
    return license_id(token) or _EXCEPTIONS.get(key)


def _is_expression(tokens: list[str]) -> bool:
    """Whether operands and operators take turns and the brackets close."""
    depth, operand = 0, True
    for place, token in enumerate(tokens):
        if token == "(":
            depth += 1
            if not operand:
                return False
        elif token == ")":
            depth -= 1
            if operand or depth < 0:
                return False
        elif token in ("AND", "OR", "WITH"):
            if operand:
                return False
            operand = True
        else:
            after_with = place > 0 and tokens[place - 1] == "WITH"
            if not operand or after_with != (token in EXCEPTIONS):
                return False
            operand = False
    return depth == 0 and not operand
