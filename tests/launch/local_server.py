"""A web server on localhost for tests of downloads: `with serving(Handler) as server`; it prints nothing."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class QuietHandler(BaseHTTPRequestHandler):
    """Lets `respond` answer each GET, with bodies of known length, and writes no log."""

    def do_GET(self):
        self.respond()

    def answer(self, status: int, body: bytes, headers: dict[str, str], *, cut: bool = False) -> None:
        """Send a whole response; cut: only half of the body that was announced."""
        self.send_response(status)
        for name, value in (headers | {"Content-Length": str(len(body))}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body[: len(body) // 2] if cut else body)

    def log_message(self, *arguments):
        pass


@contextmanager
def serving(handler: type[QuietHandler]) -> Iterator[ThreadingHTTPServer]:
    """A server of its own port, its address in `url`, until the block ends."""
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.url = f"http://127.0.0.1:{server.server_port}"
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()
