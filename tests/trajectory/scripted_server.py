"""A server of the OpenAI-compatible protocol that answers by a script: statuses, delays, broken and hostile answers."""

from __future__ import annotations

import http.server
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Reply:
    """One answer: a chat completion around `text`, or `raw` bytes, after `delay_s`."""

    text: str = ""
    status: int = 200
    finish: str = "stop"
    raw: bytes | None = None
    delay_s: float = 0.0
    headers: dict[str, str] = field(default_factory=dict)
    tokens: int = 10

    def body(self) -> bytes:
        if self.raw is not None:
            return self.raw
        message = {"role": "assistant", "content": self.text}
        choice = {"index": 0, "message": message, "finish_reason": self.finish}
        return json.dumps({"choices": [choice], "usage": {"total_tokens": self.tokens}}).encode()


@dataclass
class Script:
    """What the server will say, in order (the last again and again), and what it was asked."""

    replies: list[Reply | Callable[[dict[str, Any]], Reply]]
    asked: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    url: str = ""

    def next(self, request: dict[str, Any]) -> Reply:
        one = self.replies[min(len(self.asked) - 1, len(self.replies) - 1)]
        return one if isinstance(one, Reply) else one(request)


@contextmanager
def serving(*replies: Reply | Callable[[dict[str, Any]], Reply]) -> Iterator[Script]:
    script = Script(list(replies))

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            script.asked.append(request)
            script.headers.append({k.lower(): v for k, v in self.headers.items()})
            script.paths.append(self.path)
            reply = script.next(request)
            time.sleep(reply.delay_s)
            body = reply.body()
            try:
                self.send_response(reply.status)
                for name, value in {"Content-Type": "application/json", **reply.headers}.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)
            except (BrokenPipeError, ConnectionResetError):
                pass

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    script.url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    try:
        yield script
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)
