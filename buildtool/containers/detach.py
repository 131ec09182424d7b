"""The keys that leave an attached terminal without stopping what runs in it.

Source: Engine API, `detachKeys`; docker run(1), "Override the detach sequence".
"""

from __future__ import annotations

from buildtool.errors import InvalidInput

DEFAULT_KEYS = "ctrl-p,ctrl-q"

_SPECIAL = {"@": 0, "[": 27, "\\": 28, "]": 29, "^": 30, "_": 31}


def parse_detach_keys(text: str) -> bytes:
    """The byte sequence of `ctrl-p,ctrl-q`, `a`, `ctrl-@`; empty text is the default.

    Raises InvalidInput when a key is neither one character nor `ctrl-` and a letter or one of `@ [ \\ ] ^ _`.
    """
    sequence = bytearray()
    for key in (text or DEFAULT_KEYS).split(","):
        control = key[5:] if key.startswith("ctrl-") else ""
        if len(key) == 1 and key.isascii():
            sequence.append(ord(key))
        elif len(control) == 1 and "a" <= control <= "z":
            sequence.append(ord(control) - 96)
        elif control in _SPECIAL and control:
            sequence.append(_SPECIAL[control])
        else:
            raise InvalidInput(f"invalid detach keys ({text}): unknown character: '{key}'")
    return bytes(sequence)


class DetachScanner:
    """Looks for the detach sequence in a stream of typed bytes, across any split into chunks.

    Bytes that may be the start of the sequence are held back until it is complete or broken; bytes of a broken
    start are passed on, so that the process sees everything but a complete sequence.
    """

    def __init__(self, keys: bytes) -> None:
        self._keys = keys
        self._held = 0

    def feed(self, data: bytes) -> tuple[bytes, bool]:
        """The bytes to pass on, and whether the sequence was completed (what follows it is dropped)."""
        if not self._keys:
            return data, False
        if not self._held and data.find(self._keys[:1]) < 0:
            return data, False
        passed = bytearray()
        for byte in data:
            while self._held and self._keys[self._held] != byte:
                passed += self._shorten()
            if self._keys[self._held] != byte:
                passed.append(byte)
                continue
            self._held += 1
            if self._held == len(self._keys):
                self._held = 0
                return bytes(passed), True
        return bytes(passed), False

    def flush(self) -> bytes:
        """What is still held back, at the end of the input."""
        held, self._held = self._keys[: self._held], 0
        return held

    def _shorten(self) -> bytes:
        """Drop to the longest shorter start of the sequence that the held bytes end with; give back the rest."""
        held = self._keys[: self._held]
        for length in range(self._held - 1, -1, -1):
            if held.endswith(self._keys[:length]):
                self._held = length
                return held[: len(held) - length]
        return b""
