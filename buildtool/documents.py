"""Small documents from http(s): what an INCLUDE names. Blocking."""

from __future__ import annotations

from buildtool.errors import BuildtoolError, InvalidInput

_LARGEST = 4 << 20
_SECONDS = 30


def is_document_url(path: str) -> bool:
    """Whether this is an http(s) URL."""
    return path.startswith(("https://", "http://"))


def read_document(url: str) -> bytes:
    """The document at a URL. Redirects are followed, but only to http(s); proxies are those of the environment.

    Raises BuildtoolError when it cannot be had, InvalidInput when it is larger than 4 MiB.
    """
    from http.client import HTTPException
    from urllib.request import urlopen

    try:
        with urlopen(url, timeout=_SECONDS) as answer:
            if not is_document_url(answer.geturl()):
                raise InvalidInput(f"{url} leads away from http(s)")
            data: bytes = answer.read(_LARGEST + 1)
    except (OSError, HTTPException, ValueError) as error:
        raise BuildtoolError(f"{url}: {error}") from None
    if len(data) > _LARGEST:
        raise InvalidInput(f"{url} is larger than {_LARGEST >> 20} MiB")
    return data
