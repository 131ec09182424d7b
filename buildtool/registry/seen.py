"""Where a blob has been seen: repositories it was pulled from or pushed to, for cross-repository mounts."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from buildtool.cache import Store
from buildtool.oci import Digest

_KEEP = 4


class Seen:
    """A document a blob, in state.db. Blocking."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._documents = store.state.documents("registry-seen")

    def note(self, digests: Iterable[Digest], repository: str) -> None:
        """These blobs are in `domain/path`."""
        with self._store.state.transaction():
            for digest in set(digests):
                known = self._repositories(digest)
                if repository not in known:
                    self._documents.put(digest, {"repositories": [repository, *known][:_KEEP]})

    def elsewhere(self, digest: Digest, domain: str, path: str) -> list[str]:
        """Paths of other repositories of the registry that have it, latest first."""
        prefix = f"{domain}/"
        found = [name.removeprefix(prefix) for name in self._repositories(digest) if name.startswith(prefix)]
        return [name for name in found if name != path]

    def forget(self, digest: Digest, repository: str) -> None:
        """The repository did not have it after all."""
        known = [name for name in self._repositories(digest) if name != repository]
        if known:
            self._documents.put(digest, {"repositories": known})
        else:
            self._documents.delete(digest)

    def clean(self, keep: Collection[Digest] = ()) -> None:
        """Forget blobs that are not in the store any more, nor among those to keep."""
        for digest, _ in self._documents.items():
            if digest not in keep and not self._store.blobs.has(Digest(digest)):
                self._documents.delete(digest)

    def _repositories(self, digest: Digest) -> list[str]:
        document = self._documents.get(digest) or {}
        return [name for name in document.get("repositories", []) if isinstance(name, str)]
