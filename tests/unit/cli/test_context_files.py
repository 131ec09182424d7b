"""Files of contexts that somebody else made: a context, or a refusal that names the file."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import random
import tarfile
import zipfile

import pytest

from buildtool.cli.handlers.context_files import _document, _unpack
from buildtool.errors import InvalidInput

FILES = {"meta.json": b'{"Name": "far"}' * 40, "tls/docker/ca.pem": b"certificate " * 40}


def zipped(method: int) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        for name, content in FILES.items():
            archive.writestr(name, content)
    return out.getvalue()


def tarred() -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, content in FILES.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return out.getvalue()


FORMS = {
    "stored": zipped(zipfile.ZIP_STORED),
    "deflated": zipped(zipfile.ZIP_DEFLATED),
    "zip bzip2": zipped(zipfile.ZIP_BZIP2),
    "zip lzma": zipped(zipfile.ZIP_LZMA),
    "tar": tarred(),
    "tar.gz": gzip.compress(tarred(), mtime=0),
    "tar.xz": lzma.compress(tarred()),
    "tar.bz2": bz2.compress(tarred()),
}


@pytest.mark.parametrize("form", FORMS)
def test_a_context_is_read_in_every_form(form: str) -> None:
    assert _unpack(FORMS[form], "far.zip") == FILES


@pytest.mark.parametrize("form", FORMS)
def test_damaged_ones_are_refused_by_name_or_read_but_never_anything_else(form: str) -> None:
    dice = random.Random(form)
    for _ in range(400):
        data = bytearray(FORMS[form])
        for _ in range(dice.randint(1, 6)):
            data[dice.randrange(len(data))] = dice.randrange(256)
        if dice.random() < 0.3:
            del data[dice.randrange(len(data)) :]
        try:
            _unpack(bytes(data), "far.zip")
        except InvalidInput as refused:
            assert refused.message.startswith("far.zip: ")


@pytest.mark.parametrize(
    "data",
    [b"", b"[]", b'{"Endpoints": []}', b"[" * 100_000, b"\xff"],
    ids=["empty", "list", "no endpoints", "deep", "no text"],
)
def test_documents_without_an_endpoint_are_refused(data: bytes) -> None:
    with pytest.raises(InvalidInput, match=r"far\.zip: its meta\.json has no docker endpoint"):
        _document(data, "far.zip")
