"""Python packages: the METADATA of *.dist-info, the PKG-INFO of *.egg-info and of *.egg directories.

Source: packaging.python.org, "Recording installed projects" and "Core metadata specifications".
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from email.parser import HeaderParser

from buildtool.cache.trees import Tree
from buildtool.images.sbom.bill import Package

_RECORD = re.compile(r".*(?:\.dist-info/METADATA|\.egg-info/PKG-INFO|\.egg/EGG-INFO/PKG-INFO|\.egg-info)")
_CLASSIFIER = "License :: OSI Approved :: "


def is_record(path: str) -> bool:
    """Whether the file at this path tells of an installed package."""
    return path.endswith(("/METADATA", "/PKG-INFO", ".egg-info")) and _RECORD.fullmatch(path) is not None


def packages(tree: Tree, path: str) -> Iterator[Package]:
    """The one package of a metadata file."""
    text = tree.read_text(path)
    fields = HeaderParser().parsestr(text[: text.find("\n\n") + 1] if "\n\n" in text else text)
    name, version = str(fields.get("Name") or "").strip(), str(fields.get("Version") or "").strip()
    if not name or not version:
        return
    yield Package(
        "pypi",
        re.sub(r"[-_.]+", "-", name).lower(),
        version,
        path,
        licenses=_licenses(
            str(fields.get("License-Expression") or ""),
            str(fields.get("License") or ""),
            [str(value) for value in fields.get_all("Classifier") or ()],
        ),
        supplier=str(fields.get("Author-email") or fields.get("Author") or "").replace("\n", " "),
        homepage=str(fields.get("Home-page") or ""),
    )


def _licenses(expression: str, text: str, classifiers: list[str]) -> tuple[str, ...]:
    if expression:
        return (expression,)
    if text and "\n" not in text.strip() and len(text) < 80 and text != "UNKNOWN":
        return (text.strip(),)
    return tuple(item.removeprefix(_CLASSIFIER) for item in classifiers if item.startswith(_CLASSIFIER))
