"""Blobs out of an OCI image layout on this machine."""

from __future__ import annotations

from pathlib import Path

from buildtool.cache import BlobStore
from buildtool.errors import BuildtoolError, Corrupt
from buildtool.oci import Descriptor, hex_of
from buildtool.registry.downloads import CHUNK, GrowingBlob
from buildtool.registry.progress import Progress
from buildtool.registry.work import settled

LAYOUT = "layout"
"""The scheme of such sources: what follows is the layout's directory."""


async def from_layout(
    place: str, wanted: Descriptor, blobs: BlobStore, progress: Progress, growing: GrowingBlob
) -> None:
    """Copy a blob into the store, as `downloads.download` does. Raises BuildtoolError, Corrupt."""
    path = Path(place) / "blobs/sha256" / hex_of(wanted.digest)
    try:
        with blobs.ingest(wanted.digest, wanted.size) as ingest:
            growing.begin(ingest)
            with path.open("rb") as file:
                while data := await settled(file.read, CHUNK):
                    await settled(ingest.write, data)
                    growing.grown(ingest.written)
                    progress.update("Downloading", ingest.written, wanted.size)
            if ingest.written != wanted.size or ingest.digest() != wanted.digest:
                raise Corrupt(f"blob {wanted.digest} of {place} has the digest {ingest.digest()}")
            growing.end()
            await settled(ingest.commit)
    except OSError as error:
        growing.end(error)
        raise BuildtoolError(f"{error.filename or path}: {error.strerror}") from error
    except BaseException as error:
        growing.end(error)
        raise
