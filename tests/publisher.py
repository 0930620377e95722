"""A web server in this process that stands in for those who publish checkpoints, on good days and on bad ones."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Publisher:
    """Answers with what a test puts there, and counts who asks.

    `announced` is another length than that of the body; each connection ends after `piece` bytes if that is set, and
    hangs there while `stalls` is set; `ranges` tells whether parts can be asked for; `moved` are paths that lead on.
    """

    def __init__(self) -> None:
        self.body = b""
        self.status = 200
        self.announced: int | None = None
        self.piece: int | None = None
        self.stalls = False
        self.ranges = False
        self.moved: dict[str, str] = {}
        self.requests = 0
        self.asked: list[str] = []
        self.may_go_on = threading.Event()
        publisher = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                publisher.requests += 1
                publisher.asked.append(self.path)
                if self.path in publisher.moved:
                    self.send_response(302)
                    self.send_header("Location", publisher.moved[self.path])
                    self.end_headers()
                    return
                self.send(publisher.body)

            def send(self, body: bytes) -> None:
                asked = self.headers.get("Range")
                start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked and publisher.ranges else 0
                self.send_response(206 if start else publisher.status)
                self.send_header("Content-Length", str(publisher.announced or len(body) - start))
                self.end_headers()
                self.wfile.write(body[start:][: publisher.piece])
                self.wfile.flush()
                if publisher.stalls:
                    publisher.may_go_on.wait(20)

            def log_message(self, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01})
        self.thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}/files/toy.pt"

    def close(self) -> None:
        self.may_go_on.set()
        self.server.shutdown()
        self.thread.join(10)
        self.server.server_close()
