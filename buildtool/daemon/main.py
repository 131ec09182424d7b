"""`buildtool daemon`: start, serve, stop."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from buildtool.daemon import options as options_module
from buildtool.daemon.options import Options
from buildtool.encoding import ensure_utf8
from buildtool.errors import BuildtoolError

FOR_ONE_BUILD = "BUILDTOOL_FOR_ONE_BUILD"
"""Set for the daemon of `build --no-daemon`: files can be copied into images without user namespaces, too."""
_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warn": logging.WARNING, "error": logging.ERROR}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the daemon until it is told to stop; the exit code. A plain user's daemon re-executes itself in a user
    namespace first."""
    ensure_utf8()
    try:
        options = options_module.parse(sys.argv[1:] if arguments is None else arguments)
        _enter_user_namespace(options.root)
        _set_up_logging(options.log_level)
        return _serve(options)
    except BuildtoolError as error:
        print(f"buildtool daemon: {error}", file=sys.stderr)
        return error.exit_code
    except PermissionError as error:
        print(f"buildtool daemon: permission denied: {error.filename or error}", file=sys.stderr)
        return 1


def _enter_user_namespace(root: Path) -> None:
    if os.geteuid() == 0:
        return
    from buildtool.runtime.userns import enter_user_namespace

    os.environ.setdefault("BUILDTOOL_ROOTLESS_UID", str(os.getuid()))
    uid = os.geteuid()
    try:
        enter_user_namespace(root)
    except BuildtoolError as error:
        if FOR_ONE_BUILD not in os.environ or os.geteuid() != uid:
            raise
        print(f"buildtool daemon: {error.message}; going on without", file=sys.stderr)


def _set_up_logging(level: str) -> None:
    logging.basicConfig(
        stream=sys.stderr, level=_LEVELS[level], format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    for noisy in ("asyncio", "aiohttp"):
        logging.getLogger(noisy).setLevel(max(logging.WARNING, _LEVELS[level]))


def _serve(options: Options) -> int:
    import asyncio

    from buildtool.daemon.run import run

    return asyncio.run(run(options))


if __name__ == "__main__":
    sys.exit(main())
