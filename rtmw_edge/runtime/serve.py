"""A page with the annotated stream for a machine without a screen: read-only, on loopback unless told otherwise.

`/` is the page, `/stream.mjpg` the pictures, `/frame.jpg` the newest one, `/status.json` the figures. A picture is
drawn and encoded once for all viewers, and only while somebody watches. Each viewer gets the newest picture when it is
ready for one and misses those between, so that a slow one slows nobody.
"""

from __future__ import annotations

import ipaddress
import json
import secrets
import select
import socket
import threading
import time
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import urlsplit

import cv2

from ..errors import BadInputError
from .engine import Description, Model
from .frames import Annotated, Failure
from .meter import WINDOW, Meter

PAGE = Path(__file__).with_name("serve.html")
LOOPBACK = "127.0.0.1"
MOST_VIEWERS = 16
"""Streams at a time; the next one is told to come back."""
MOST_CONNECTIONS = 64
SEND_TIMEOUT_S = 10.0
"""A viewer that takes nothing for this long is let go."""
PIECE = 1 << 16
"""Bytes that are sent at a time, each with its own patience."""
STILL_THERE_S = 1.0
"""How often it is asked whether a viewer is still there while no picture comes."""
JPEG_QUALITY = 80
SOON_S = 0.05
"""How often the server looks whether it should end."""
BOUNDARY = "rtmw-edge-frame"
JUST_WATCHED_S = 5.0
"""A picture is made for this long after somebody last asked for one."""


def parse_address(text: str) -> tuple[str, int]:
    """Host and port of "HOST:PORT", ":PORT" or "PORT"; without a host it is this machine alone.

    >>> parse_address("8080"), parse_address("[::1]:8080")
    (('127.0.0.1', 8080), ('::1', 8080))
    """
    host, _, port = text.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    if not port.isdecimal() or not 0 <= int(port) <= 65535 or any(c.isspace() or c in "/@" for c in host):
        raise BadInputError(f"Cannot serve on '{text}': write HOST:PORT, or only a port from 0 to 65535, as in 8080.")
    return host or LOOPBACK, int(port)


class Served:
    """What viewers may see: the newest picture as JPEG, and the figures. Written by one thread, read by many."""

    def __init__(self, model: Model, description: Description, meter: Meter, dropped: Callable[[], int]) -> None:
        self._model, self._description, self._meter, self._dropped = model, description, meter, dropped
        self._changed = threading.Condition()
        self._jpeg = b""
        self.number = 0
        """How many pictures there were."""
        self._asked_s = float("-inf")
        self.over = False
        """Whether no picture will come any more."""
        self._updated_s = time.monotonic()
        self._status: dict[str, Any] = {}
        self.viewers: list[str] = []
        """What the streams that are open are called, empty for most; kept by the server."""

    @property
    def watched(self) -> bool:
        """Whether somebody wants pictures."""
        return bool(self.viewers) or time.monotonic() - self._asked_s < JUST_WATCHED_S

    def update(self, annotated: Annotated) -> None:
        """Take the next result; its picture is drawn only when somebody watches."""
        result, ran = annotated.result, self._description
        status = {
            "source": result.frame.origin.name,
            "frame": result.frame.index,
            "time_s": round(result.frame.time_s, 3),
            "people": len(result.poses),
            "fps": round(self._meter.fps, 1),
            "frames": self._meter.frames,
            "dropped": self._dropped(),
            "stages_ms": self._meter.stages(WINDOW),
            "model": f"{self._model.variant} {self._model.target} {self._model.precision}",
            "device": f"{ran.runtime} {ran.version}, {ran.device}",
            "threads": ran.threads,
            "int8_convolutions": f"{ran.int8}/{ran.convolutions}",
        }
        jpeg = b""
        if self.watched:
            _, encoded = cv2.imencode(".jpg", annotated.picture, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
            jpeg = encoded.tobytes()
        with self._changed:
            self._status, self._updated_s = status, time.monotonic()
            if jpeg:
                self._jpeg, self.number = jpeg, self.number + 1
            self._changed.notify_all()

    def status(self, viewer: str = "") -> dict[str, Any]:
        """The figures of the newest frame, and its age in seconds; before the first, the age of the run.

        For a `viewer` also whether its stream is open: browsers do not tell a page that one has ended.
        """
        with self._changed:
            age_s = round(time.monotonic() - self._updated_s, 1)
            watching = {"watching": viewer in self.viewers} if viewer else {}
            return {**self._status, "age_s": age_s, "viewers": len(self.viewers), "running": not self.over, **watching}

    def picture(self, after: int, patience_s: float) -> tuple[int, bytes] | None:
        """Number and JPEG of the newest picture that is not number `after`; None when none came in time or at all."""
        with self._changed:
            self._asked_s = time.monotonic()
            self._changed.wait_for(lambda: self.over or self.number > after, patience_s)
            return (self.number, self._jpeg) if self.number > after else None

    def end(self) -> None:
        """Send the viewers home."""
        with self._changed:
            self.over = True
            self._changed.notify_all()


class Server:
    """The sink that serves. Raises BadInputError when the address cannot be had; `url` is where to look."""

    def __init__(self, address: tuple[str, int], served: Served) -> None:
        self._served = served
        host, port = address
        try:
            self._http = _Http(host, port, served)
        except (OSError, OverflowError) as error:
            reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            raise BadInputError(f"Cannot serve on {host}:{port}: {reason}. Choose another --serve HOST:PORT.") from None
        shown = f"[{host}]" if ":" in host else host
        self.url = f"http://{shown}:{self._http.server_address[1]}/"
        self.open_to_all = not self._http.loopback
        threading.Thread(target=self._http.serve_forever, args=(SOON_S,), name="rtmw-edge serves", daemon=True).start()

    def write(self, annotated: Annotated) -> None:
        self._served.update(annotated)

    def fail(self, failure: Failure) -> None:
        """Told in the terminal."""

    def close(self) -> list[str]:
        self.discard()
        return []

    def discard(self) -> None:
        self._served.end()
        self._http.shutdown()
        self._http.server_close()


class _Http(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, host: str, port: int, served: Served) -> None:
        self.served = served
        self.loopback = host == "localhost" or _is_loopback(host)
        self.page = PAGE.read_text(encoding="utf-8")
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._places = threading.Semaphore(MOST_CONNECTIONS)
        self.streams = threading.Lock()
        super().__init__((host, port), _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        """A thread for each connection, up to a number: a flood is refused, not served."""
        if self._places.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._places.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A viewer that goes away in the middle is no error of ours."""


class _Handler(BaseHTTPRequestHandler):
    server: _Http
    server_version = "rtmw-edge"
    sys_version = ""
    protocol_version = "HTTP/1.1"
    timeout = SEND_TIMEOUT_S
    PATHS: ClassVar[dict[str, str]] = {
        "/": "_page",
        "/stream.mjpg": "_stream",
        "/frame.jpg": "_frame",
        "/status.json": "_figures",
    }

    def do_GET(self) -> None:
        """Serve one of the four paths; nothing is looked up on the disk."""
        if not self._host_is_ours():
            self._refuse(HTTPStatus.FORBIDDEN, "This address is not served under that name.")
            return
        name = self.PATHS.get(self.path.partition("?")[0])  # "?t=123" gets around a cache
        if name is None:
            self._refuse(HTTPStatus.NOT_FOUND, f"There is nothing here; there are {', '.join(self.PATHS)}.")
        else:
            getattr(self, name)()

    do_HEAD = do_GET

    def __getattr__(self, name: str) -> Any:
        """Every other method: the standard library looks for do_POST, do_PUT and so on."""
        if name.startswith("do_"):
            return self._wrong_method
        raise AttributeError(name)

    def _wrong_method(self) -> None:
        self._refuse(HTTPStatus.METHOD_NOT_ALLOWED, "This page can only be looked at: GET or HEAD.", Allow="GET, HEAD")

    def _host_is_ours(self) -> bool:
        """On loopback only names of this machine: a foreign page must not read the camera through its own name."""
        if not self.server.loopback:
            return True
        try:
            host = urlsplit(f"//{self.headers.get('Host', '')}").hostname or ""
        except ValueError:
            return False
        return host == "localhost" or _is_loopback(host)

    def _page(self) -> None:
        nonce = secrets.token_urlsafe(16)
        own = f"style-src 'nonce-{nonce}'; script-src 'nonce-{nonce}'"
        policy = f"default-src 'none'; img-src 'self'; connect-src 'self'; {own}"
        body = self.server.page.replace("NONCE", nonce).encode()
        self._send(HTTPStatus.OK, "text/html; charset=utf-8", body, Content_Security_Policy=policy)

    def _figures(self) -> None:
        figures = self.server.served.status(self._query())
        self._send(HTTPStatus.OK, "application/json", json.dumps(figures).encode())

    def _frame(self) -> None:
        served = self.server.served
        # The newest may be old, since none is drawn while nobody watches; where none comes, better that than nothing.
        found = served.picture(served.number, JUST_WATCHED_S) or served.picture(0, 0)
        if found is None:
            self._refuse(HTTPStatus.SERVICE_UNAVAILABLE, "There is no picture yet.", Retry_After="1")
        else:
            self._send(HTTPStatus.OK, "image/jpeg", found[1])

    def _stream(self) -> None:
        served, viewer = self.server.served, self._query()
        if self.command == "HEAD":
            self._send(HTTPStatus.OK, f"multipart/x-mixed-replace; boundary={BOUNDARY}", b"", endless=True)
            return
        with self.server.streams:
            full = len(served.viewers) >= MOST_VIEWERS
            if not full:
                served.viewers.append(viewer)
        if full:
            self._refuse(HTTPStatus.SERVICE_UNAVAILABLE, f"{MOST_VIEWERS} people watch already.", Retry_After="10")
            return
        try:
            self._send(HTTPStatus.OK, f"multipart/x-mixed-replace; boundary={BOUNDARY}", b"", endless=True)
            number = 0
            while not served.over:
                found = served.picture(number, STILL_THERE_S)
                if found is not None:
                    number, jpeg = found
                    head = f"--{BOUNDARY}\r\nContent-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n"
                    self._take(head.encode() + jpeg + b"\r\n")
                elif self._has_left():
                    return
        except OSError:
            pass  # the viewer has gone, or takes nothing any more
        finally:
            with self.server.streams:
                served.viewers.remove(viewer)

    def _query(self) -> str:
        """What follows the path: pages call their stream by it."""
        return self.path.partition("?")[2]

    def _take(self, data: bytes) -> None:
        """Send piece by piece: a time limit is one of the whole call, and a slow viewer is no absent one."""
        for start in range(0, len(data), PIECE):
            self.wfile.write(data[start : start + PIECE])

    def _has_left(self) -> bool:
        """Whether the viewer has closed the connection; whatever else comes from there is of no interest."""
        readable, _, _ = select.select([self.connection], [], [], 0)
        return bool(readable) and not self.connection.recv(1 << 12)

    def _send(self, status: HTTPStatus, kind: str, body: bytes, *, endless: bool = False, **headers: str) -> None:
        self.close_connection = True
        self.send_response(status)
        self.send_header("Content-Type", kind)
        if not endless:
            self.send_header("Content-Length", str(len(body)))
        self.send_header("Connection", "close")
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Cross-Origin-Resource-Policy", "same-origin")
        self.send_header("X-Frame-Options", "DENY")
        self.send_header("Referrer-Policy", "no-referrer")
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self._take(body)

    def _refuse(self, status: HTTPStatus, reason: str, **headers: str) -> None:
        body = f"{reason}\n".encode()
        self._send(status, "text/plain; charset=utf-8", body, endless=False, **headers)

    def log_message(self, format: str, *args: object) -> None:
        """The terminal is for the run."""


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
