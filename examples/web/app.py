"""A small web service: GET / greets, GET /health answers ok. `--check` asks the running service for its health."""

import os
import sys
import urllib.request

PORT = int(os.environ.get("PORT", "8000"))


def check() -> int:
    """Exit code 0 when the service on this host answers its health request."""
    with urllib.request.urlopen(f"http://127.0.0.1:{PORT}/health", timeout=2) as answer:
        return 0 if answer.read() == b"ok" else 1


def serve() -> None:
    """Serve until stopped."""
    from bottle import Bottle
    from waitress import serve as waitress_serve

    app = Bottle()
    app.route("/", callback=lambda: {"greeting": "hello", "user": os.getuid()})
    app.route("/health", callback=lambda: "ok")
    print(f"listening on {PORT}", flush=True)
    waitress_serve(app, host="0.0.0.0", port=PORT)


if __name__ == "__main__":
    if sys.argv[1:] == ["--check"]:
        sys.exit(check())
    serve()
