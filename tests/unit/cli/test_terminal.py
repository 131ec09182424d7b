"""Detach keys, raw mode, and copying in both directions over real pipes, ptys and sockets."""

from __future__ import annotations

import os
import pty
import signal
import socket
import termios
import threading
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buildtool.cli.session import Session, SignalPasser, Signals
from buildtool.cli.terminal import DetachFilter, RawMode, parse_detach_keys
from buildtool.errors import InvalidInput


@pytest.mark.parametrize(
    ("text", "keys"),
    [("ctrl-p,ctrl-q", b"\x10\x11"), ("ctrl-a,d", b"\x01d"), ("ctrl-@,ctrl-[", b"\x00\x1b"), ("q", b"q")],
)
def test_detach_keys_are_read(text: str, keys: bytes) -> None:
    assert parse_detach_keys(text) == keys


@pytest.mark.parametrize("text", ["", "ctrl-", "ctrl-aa", "strg-p", "ctrl-p,,x"])
def test_wrong_detach_keys(text: str) -> None:
    with pytest.raises(InvalidInput, match="invalid detach keys"):
        parse_detach_keys(text)


def feed(keys: bytes, *parts: bytes) -> tuple[bytes, bool]:
    watcher = DetachFilter(keys)
    out = b""
    for part in parts:
        passed, detached = watcher.feed(part)
        out += passed
        if detached:
            return out, True
    return out, False


def test_the_keys_detach_in_one_piece_or_two() -> None:
    assert feed(b"\x10\x11", b"ab\x10\x11rest") == (b"ab", True)
    assert feed(b"\x10\x11", b"ab\x10", b"\x11") == (b"ab", True)
    assert feed(b"q", b"abq") == (b"ab", True)


def test_a_begun_sequence_that_goes_on_otherwise_is_passed_on() -> None:
    assert feed(b"\x10\x11", b"\x10", b"x") == (b"\x10x", False)
    assert feed(b"\x10\x11", b"\x10\x10\x11") == (b"\x10", True)
    assert feed(b"", b"\x10\x11") == (b"\x10\x11", False)


@given(st.lists(st.binary(max_size=8)))
def test_without_the_first_key_nothing_is_changed(parts: list[bytes]) -> None:
    """Input that does not hold the first detach key passes unchanged, however it is cut."""
    plain = [part.replace(b"\x10", b"") for part in parts]
    assert feed(b"\x10\x11", *plain) == (b"".join(plain), False)


def test_raw_mode_is_undone_even_after_an_error() -> None:
    leader, follower = pty.openpty()
    before = termios.tcgetattr(follower)
    with pytest.raises(RuntimeError), RawMode(follower):
        assert not termios.tcgetattr(follower)[3] & termios.ECHO
        raise RuntimeError
    assert termios.tcgetattr(follower) == before
    os.close(leader)
    os.close(follower)


class Stream:
    """What Session needs of a RawStream, over a socket pair."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.first = b""

    @property
    def pending(self) -> bool:
        return bool(self.first)

    def fileno(self) -> int:
        return self.sock.fileno()

    def receive(self) -> bytes:
        data, self.first = self.first, b""
        return data or self.sock.recv(1 << 16)

    def send_some(self, data: bytes) -> int:
        try:
            return self.sock.send(data, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return 0

    def end_input(self) -> None:
        self.sock.shutdown(socket.SHUT_WR)


def run_session(
    serve: Callable[[socket.socket], None], capfd: pytest.CaptureFixture[str], **options: object
) -> tuple[bool, str, str]:
    ours, theirs = socket.socketpair()
    thread = threading.Thread(target=serve, args=(theirs,))
    thread.start()
    ended = Session(Stream(ours), **options).run()  # type: ignore[arg-type]
    ours.close()
    thread.join()
    theirs.close()
    out, err = capfd.readouterr()
    return ended, out, err


def test_frames_go_to_stdout_and_stderr(capfd: pytest.CaptureFixture[str]) -> None:
    def serve(sock: socket.socket) -> None:
        sock.sendall(b"\x01\0\0\0\0\0\0\x03out\x02\0\0\0\0\0\0\x03err")
        sock.shutdown(socket.SHUT_WR)

    assert run_session(serve, capfd, tty=False) == (True, "out", "err")


def test_more_input_than_buffers_hold_flows_both_ways(capfd: pytest.CaptureFixture[str]) -> None:
    """A process that prints while it reads must not lock up with a client that sends while it should receive."""
    size = 4_000_000
    reader, writer = os.pipe()

    def feed_input() -> None:
        data = b"x" * size
        while data:
            data = data[os.write(writer, data) :]
        os.close(writer)

    received = bytearray()

    def echo(sock: socket.socket) -> None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        while part := sock.recv(4096):
            received.extend(part)
            sock.sendall(part)
        sock.shutdown(socket.SHUT_WR)

    feeder = threading.Thread(target=feed_input)
    feeder.start()
    ended, out, _ = run_session(echo, capfd, tty=True, stdin=reader)
    feeder.join()
    os.close(reader)
    assert (ended, len(received), len(out)) == (True, size, size)


def test_detaching_ends_the_session(capfd: pytest.CaptureFixture[str]) -> None:
    reader, writer = os.pipe()
    os.write(writer, b"ls\x10\x11")

    def serve(sock: socket.socket) -> None:
        assert sock.recv(100) == b"ls"
        sock.recv(100)

    ended, _, _ = run_session(serve, capfd, tty=True, stdin=reader, detach_keys=b"\x10\x11")
    os.close(writer)
    os.close(reader)
    assert ended is False


def test_signals_are_passed_on_by_name(capfd: pytest.CaptureFixture[str]) -> None:
    sent: list[str] = []
    resized: list[int] = []
    ours, theirs = socket.socketpair()

    def send(name: str) -> None:
        sent.append(name)
        if name == "TERM":
            theirs.close()

    with Signals(passing=True, resizing=True) as signals:
        passer = SignalPasser(send, lambda: resized.append(1))
        for number in (signal.SIGWINCH, signal.SIGINT, signal.SIGUSR1):
            os.kill(os.getpid(), number)
        timer = threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGTERM))
        timer.start()
        assert Session(Stream(ours), tty=False, on_signal=passer, signals=signals).run() is True  # type: ignore[arg-type]
    ours.close()
    assert sorted(sent) == ["INT", "TERM", "USR1"] and resized == [1]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_the_third_interrupt_ends_the_client() -> None:
    passer = SignalPasser(lambda name: None)
    passer(signal.SIGINT)
    passer(signal.SIGTERM)
    with pytest.raises(SystemExit):
        passer(signal.SIGINT)
