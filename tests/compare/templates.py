"""What the stock docker CLI makes of templates, recorded: `python -m tests.compare.templates` renews the record.

The templates are those of templates.json; the CLI gets its documents from a server that knows only these.
"""

from __future__ import annotations

import http.server
import json
import re
import socketserver
import subprocess
import tempfile
import threading
from pathlib import Path
from typing import Any

RECORD = Path(__file__).with_name("templates.json")
KINDS = {
    "container": "containers/it/json",
    "image": "images/it/json",
    "network": "networks/it",
    "volume": "volumes/it",
}


def plain(text: str) -> str:
    """A text without what differs from run to run: addresses in memory."""
    return re.sub(r"0xc[0-9a-f]{9}", "0xc", text)


class _Server(socketserver.ThreadingUnixStreamServer):
    documents: dict[str, Any]


class _Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        assert isinstance(self.server, _Server)
        path = re.sub(r"^/(v[\d.]+/)?", "", self.path.partition("?")[0])
        document = self.server.documents.get(path)
        data = json.dumps(document or {"message": "no"}).encode()
        self.send_response(200 if document or path == "_ping" else 404)
        self.send_header("Api-Version", "1.50")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    do_HEAD = do_GET

    def log_message(self, *_arguments: object) -> None:
        return

    def address_string(self) -> str:
        return ""


class DockerCli:
    """The stock CLI with documents of our choosing."""

    def __init__(self, documents: dict[str, Any]) -> None:
        self._folder = tempfile.TemporaryDirectory()
        self._socket = f"{self._folder.name}/s"
        self._server = _Server(self._socket, _Handler)
        self._server.documents = {KINDS[kind]: document for kind, document in documents.items()}
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def inspect(self, kind: str, template: str) -> tuple[int, str]:
        """Exit code, and what it prints: the text, or the message."""
        command = ["docker", "-H", f"unix://{self._socket}", "inspect", "--type", kind, "--format", template, "it"]
        done = subprocess.run(command, capture_output=True, check=False, timeout=30)
        text = done.stderr if done.returncode else done.stdout
        decoded = text.decode("utf-8", "surrogateescape")
        return done.returncode, plain(decoded.strip("\n") if done.returncode else decoded[:-1])

    def close(self) -> None:
        """End the server."""
        self._server.shutdown()
        self._server.server_close()
        self._folder.cleanup()


def main() -> None:
    """Record anew."""
    record = json.loads(RECORD.read_text())
    cli = DockerCli(record["documents"])
    record["results"] = [[kind, text, *cli.inspect(kind, text)] for kind, text, *_ in record["results"]]
    cli.close()
    lines = ",\n".join(json.dumps(result, ensure_ascii=True) for result in record["results"])
    documents = json.dumps(record["documents"], indent=1, sort_keys=True)
    RECORD.write_text(f'{{"documents": {documents},\n"results": [\n{lines}\n]}}\n')


if __name__ == "__main__":
    main()
