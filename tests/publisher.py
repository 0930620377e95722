"""A web server in this process that stands in for those who publish checkpoints."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Publisher:
    """A web server that answers with what a test puts there, and counts who asks."""

    def __init__(self) -> None:
        self.body = b""
        self.status = 200
        self.announced: int | None = None  # another length than that of the body
        self.requests = 0
        publisher = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                publisher.requests += 1
                self.send_response(publisher.status)
                self.send_header("Content-Length", str(publisher.announced or len(publisher.body)))
                self.end_headers()
                self.wfile.write(publisher.body)

            def log_message(self, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01})
        self.thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}/files/toy.pt"

    def close(self) -> None:
        self.server.shutdown()
        self.thread.join(10)
        self.server.server_close()
