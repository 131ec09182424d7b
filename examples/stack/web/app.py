"""Notes: POST /notes adds one, GET /notes lists them (from the cache when it can), GET / greets and counts visits."""

import json
import os
import socket
import sys
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

PORT = 8000


class Notes(BaseHTTPRequestHandler):
    """The service; every request has connections of its own."""

    def do_GET(self) -> None:
        """Greet, list, or tell the health."""
        if self.path == "/health":
            self.answer({"ok": True})
        elif self.path == "/notes":
            cached = cache().get("notes")
            if cached is not None:
                self.answer({"notes": json.loads(cached), "from": "cache"})
                return
            with database() as connection, connection.cursor() as cursor:
                cursor.execute("SELECT text FROM notes ORDER BY id")
                notes = [text for (text,) in cursor.fetchall()]
            cache().set("notes", json.dumps(notes))
            self.answer({"notes": notes, "from": "database"})
        else:
            greeting = os.environ.get("GREETING", "")
            self.answer({"greeting": greeting, "visits": cache().incr("visits"), "host": socket.gethostname()})

    def do_POST(self) -> None:
        """Add a note."""
        text = self.rfile.read(int(self.headers.get("Content-Length", "0"))).decode()
        with database() as connection, connection.cursor() as cursor:
            cursor.execute("INSERT INTO notes (text) VALUES (%s)", (text,))
        cache().delete("notes")
        self.answer({"added": text})

    def answer(self, document: dict) -> None:
        """Send JSON."""
        data = json.dumps(document).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


def database():
    """A connection to PostgreSQL."""
    import psycopg2

    password = Path("/run/secrets/db_password").read_text()
    return psycopg2.connect(host="db", user="notes", password=password, dbname="notes")


def cache():
    """A connection to Redis."""
    import redis

    return redis.Redis(host="cache", decode_responses=True)


if __name__ == "__main__":
    if sys.argv[1:] == ["--check"]:
        sys.exit(urllib.request.urlopen(f"http://127.0.0.1:{PORT}/health", timeout=3).status != 200)
    print(f"listening on {PORT}", flush=True)
    ThreadingHTTPServer(("0.0.0.0", PORT), Notes).serve_forever()
