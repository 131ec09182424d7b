"""The text of a Buildfile or an ignore file out of its bytes; file names in UTF-8, whatever the locale."""

from __future__ import annotations

import os
import sys

from buildtool.errors import InvalidInput

_MARK = b"\xef\xbb\xbf"


def decode_file(data: bytes, name: str) -> str:
    """UTF-8 without its byte order mark. In comments other bytes may stand, as Docker lets them: they become U+FFFD.

    Raises InvalidInput with name and line for such bytes anywhere else.
    """
    data = data.removeprefix(_MARK)
    try:
        return data.decode()
    except UnicodeDecodeError:
        pass
    for number, line in enumerate(data.split(b"\n"), 1):
        try:
            line.decode()
        except UnicodeDecodeError:
            if not line.lstrip().startswith(b"#"):
                hint = "Save it as UTF-8; other bytes may stand in comments only."
                raise InvalidInput(f"{name}:{number}: the file is not UTF-8 text", hint=hint) from None
    return data.decode(errors="replace")


def ensure_utf8() -> None:
    """Execute this program again in Python's UTF-8 mode where the locale has another encoding for file names.

    Names go into layers and JSON as they are on disk; a daemon in a Latin-1 locale would make others of them.
    """
    if sys.getfilesystemencoding() != "utf-8" and os.environ.get("PYTHONUTF8") != "1":
        os.environ["PYTHONUTF8"] = "1"
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])
