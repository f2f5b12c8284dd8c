"""The page: what it answers, what it refuses, several viewers at once, and a look in a real browser."""

from __future__ import annotations

import http.client
import json
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from fixed_engine import FixedEngine
from fleet_workers import until

from rtmw_edge.errors import BadInputError
from rtmw_edge.runtime import Runner, serve
from rtmw_edge.runtime.frame_runner import FrameRunner
from rtmw_edge.runtime.frames import Annotated, Frame, Origin, Result
from rtmw_edge.runtime.meter import Meter
from rtmw_edge.runtime.painting import Painter
from rtmw_edge.runtime.serve import Served, Server, parse_address


class Show:
    """A run that shows one frame after another, every 10 ms, until it is closed."""

    def __init__(self, host: str = "127.0.0.1", size: tuple[int, int] = (96, 128)) -> None:
        engine = FixedEngine()
        self.meter = Meter()
        self.served = Served(engine.model, engine.describe(), self.meter, lambda: 3)
        self.server = Server((host, 0), self.served)
        self.port = self.server._http.server_address[1]
        self._process, self._size = FrameRunner(Runner(engine)), size
        self._over = threading.Event()
        self.drawn = 0
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        paint = Painter(0.1)

        def counted(result: Result) -> np.ndarray:
            self.drawn += 1
            return paint(result)

        index = 0
        while not self._over.wait(0.01):
            image = np.full((*self._size, 3), 60 + index % 100, np.uint8)
            result = self._process(Frame(Origin("clip.mp4", 30.0), index, index / 30, image))
            assert isinstance(result, Result)
            self.meter.add(result)
            self.server.write(Annotated(result, counted))
            index += 1

    def get(self, path: str, method: str = "GET", **headers: str) -> tuple[int, dict[str, str], bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        connection.putrequest(method, path, skip_host="Host" in headers)
        for name, value in headers.items():
            connection.putheader(name, value)
        connection.endheaders()
        answer = connection.getresponse()
        body = answer.read()
        connection.close()
        return answer.status, dict(answer.getheaders()), body

    def watch(self, pictures: int) -> list[bytes]:
        """So many JPEGs of the stream."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=10) as connection:
            connection.sendall(b"GET /stream.mjpg HTTP/1.1\r\nHost: localhost\r\n\r\n")
            file, found = connection.makefile("rb"), []
            assert b"200" in file.readline()
            while len(found) < pictures:
                line = file.readline()
                if line.startswith(b"Content-Length:"):
                    file.readline()
                    found.append(file.read(int(line.split()[1])))
            return found

    def close(self) -> None:
        self._over.set()
        self._thread.join()
        self.server.close()


@pytest.fixture()
def show() -> Iterator[Show]:
    running = Show()
    yield running
    running.close()


def test_the_page(show: Show) -> None:
    status, headers, body = show.get("/")
    assert status == 200 and headers["Content-Type"] == "text/html; charset=utf-8"
    nonce = headers["Content-Security-Policy"].rpartition("'nonce-")[2].rstrip("'")
    assert f'<script nonce="{nonce}">'.encode() in body and b"NONCE" not in body
    assert "default-src 'none'" in headers["Content-Security-Policy"] and headers["Cache-Control"] == "no-store"
    assert headers["X-Content-Type-Options"] == "nosniff" and headers["X-Frame-Options"] == "DENY"
    assert headers["Server"] == "rtmw-edge " or headers["Server"].strip() == "rtmw-edge", "no version of Python"


def test_the_figures(show: Show) -> None:
    until(lambda: show.meter.frames > 3, 20)
    status, _, body = show.get("/status.json")
    figures = json.loads(body)
    assert status == 200 and figures["running"] and figures["viewers"] == 0
    assert (figures["people"], figures["dropped"], figures["source"]) == (1, 3, "clip.mp4")
    assert figures["fps"] > 0 and figures["stages_ms"]["pose"] > 0
    assert figures["model"] == "fixed none fp32" and figures["device"] == "fixed answers 1, cpu"
    assert "watching" not in figures and not json.loads(show.get("/status.json?me")[2])["watching"]


def test_the_newest_picture(show: Show) -> None:
    status, headers, body = show.get("/frame.jpg")
    assert status == 200 and headers["Content-Type"] == "image/jpeg"
    assert cv2.imdecode(np.frombuffer(body, np.uint8), cv2.IMREAD_COLOR).shape[2] == 3


def test_where_nothing_new_comes_the_last_picture_is_shown(show: Show, monkeypatch: pytest.MonkeyPatch) -> None:
    """A camera that stalls, or a board that takes seconds a frame."""
    show.watch(1)
    monkeypatch.setattr("rtmw_edge.runtime.serve.JUST_WATCHED_S", 0.0)
    show._over.set()
    show._thread.join()
    status, _, body = show.get("/frame.jpg?t=123")
    assert status == 200 and cv2.imdecode(np.frombuffer(body, np.uint8), cv2.IMREAD_COLOR) is not None


def test_nothing_is_drawn_while_nobody_watches(show: Show) -> None:
    until(lambda: show.meter.frames > 3, 20)
    assert show.drawn == 0
    show.watch(2)
    assert show.drawn >= 2


@pytest.mark.parametrize(
    "path",
    ["/..", "/../../etc/passwd", "/%2e%2e/etc/passwd", "/index.html", "/status.json/", "/%3Fx=1", "/serve.html"],
)
def test_other_paths_are_not_there(show: Show, path: str) -> None:
    status, _, body = show.get(path)
    assert status == 404 and body == b"There is nothing here; there are /, /stream.mjpg, /frame.jpg, /status.json.\n"


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "BREW"])
def test_it_can_only_be_looked_at(show: Show, method: str) -> None:
    status, headers, _ = show.get("/", method)
    assert status == 405 and headers["Allow"] == "GET, HEAD"


@pytest.mark.parametrize("path", ["/", "/status.json", "/frame.jpg", "/stream.mjpg"])
def test_head_has_no_body(show: Show, path: str) -> None:
    status, _, body = show.get(path, "HEAD")
    assert status == 200 and body == b""


@pytest.mark.parametrize(
    ("host", "status"),
    [("localhost:8080", 200), ("127.0.0.1", 200), ("[::1]:80", 200), ("evil.example", 403), ("", 403)],
)
def test_on_loopback_a_foreign_name_reads_nothing(show: Show, host: str, status: int) -> None:
    """A page of evil.example whose name suddenly means 127.0.0.1 must not see the camera."""
    assert show.get("/status.json", Host=host)[0] == status


def test_several_viewers_do_not_slow_the_loop(show: Show) -> None:
    """Four who watch and one who never reads, with pictures larger than a socket holds."""
    show.close()
    wide = Show(size=(1080, 1920))
    try:
        sleeper = socket.create_connection(("127.0.0.1", wide.port))
        sleeper.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sleeper.sendall(b"GET /stream.mjpg HTTP/1.1\r\nHost: localhost\r\n\r\n")
        found: list[list[bytes]] = []
        threads = [threading.Thread(target=lambda: found.append(wide.watch(4))) for _ in range(4)]
        before = wide.meter.frames
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
        assert len(found) == 4 and all(len(pictures) == 4 for pictures in found)
        assert wide.meter.frames - before >= 4 and wide.drawn <= wide.meter.frames, "drawn once for all"
        assert json.loads(wide.get("/status.json")[2])["viewers"] >= 1
        sleeper.close()
    finally:
        wide.close()


def test_too_many_viewers_are_told(show: Show, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serve, "MOST_VIEWERS", 1)
    with socket.create_connection(("127.0.0.1", show.port), timeout=10) as first:
        first.sendall(b"GET /stream.mjpg HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert b"200" in first.makefile("rb").readline()
        status, headers, body = show.get("/stream.mjpg")
        assert status == 503 and headers["Retry-After"] == "10" and body == b"1 people watch already.\n"


def test_who_leaves_while_no_picture_comes_makes_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """As while a camera is away: nothing is written, so nothing tells that nobody reads."""
    monkeypatch.setattr(serve, "STILL_THERE_S", 0.05)
    engine = FixedEngine()
    served = Served(engine.model, engine.describe(), Meter(), lambda: 0)
    server = Server(("127.0.0.1", 0), served)
    for _ in range(3):
        with socket.create_connection(("127.0.0.1", server._http.server_address[1]), timeout=10) as connection:
            connection.sendall(b"GET /stream.mjpg HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert b"200" in connection.recv(100) and served.viewers
    until(lambda: not served.viewers, 5)
    server.close()


def test_a_picture_is_sent_in_pieces_each_with_its_own_patience() -> None:
    """A time limit is one of a whole call: a slow viewer of a large picture would be taken for an absent one."""
    sent: list[bytes] = []
    handler = serve._Handler.__new__(serve._Handler)
    handler.wfile = SimpleNamespace(write=sent.append)  # type: ignore[assignment]
    data = bytes(range(256)) * 1000
    handler._take(data)
    assert b"".join(sent) == data and len(sent) > 1 and max(map(len, sent)) <= serve.PIECE


def test_the_age_of_the_newest_frame_is_told(show: Show) -> None:
    def status() -> dict[str, float]:
        return json.loads(show.get("/status.json")[2])  # type: ignore[no-any-return]

    show.watch(1)
    before = status()["age_s"]
    show._over.set()
    show._thread.join()
    time.sleep(0.4)
    assert status()["age_s"] >= 0.3 and status()["age_s"] >= before and status()["running"]


def test_viewers_are_let_go_at_the_end() -> None:
    show = Show()
    stream = socket.create_connection(("127.0.0.1", show.port), timeout=10)
    stream.sendall(b"GET /stream.mjpg HTTP/1.1\r\nHost: localhost\r\n\r\n")
    stream.recv(100)
    show.close()
    while stream.recv(65536):
        pass
    with pytest.raises(OSError):
        socket.create_connection(("127.0.0.1", show.port), timeout=1)


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("8080", ("127.0.0.1", 8080)),
        (":8080", ("127.0.0.1", 8080)),
        ("0.0.0.0:80", ("0.0.0.0", 80)),
        ("[::1]:80", ("::1", 80)),
        ("pi.local:0", ("pi.local", 0)),
    ],
)
def test_addresses(text: str, address: tuple[str, int]) -> None:
    assert parse_address(text) == address


@pytest.mark.parametrize("text", ["", "pi", "pi:", "pi:http", ":99999", "a b:80", "http://pi:80"])
def test_addresses_that_are_none(text: str) -> None:
    with pytest.raises(BadInputError, match=r"Cannot serve on '.*': write HOST:PORT, or only a port"):
        parse_address(text)


def test_an_address_that_is_taken(show: Show) -> None:
    with pytest.raises(BadInputError, match=rf"Cannot serve on 127\.0\.0\.1:{show.port}: Address already in use"):
        Server(("127.0.0.1", show.port), show.served)


def test_only_a_host_that_is_given_opens_it_to_others() -> None:
    show = Show("0.0.0.0")
    try:
        assert show.server.open_to_all and show.get("/status.json", Host="pi.local")[0] == 200
    finally:
        show.close()


def browse(port: int, profile: Path, milliseconds: int = 3000) -> subprocess.CompletedProcess[str]:
    """The page in headless Chromium: its final DOM, and what the browser logged of it."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("no Chromium is installed: apt install chromium")
    command = [
        chromium, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={profile}", "--v=0",
        "--enable-logging=stderr", f"--virtual-time-budget={milliseconds}", "--dump-dom", f"http://127.0.0.1:{port}/",
    ]  # fmt: skip
    return subprocess.run(command, capture_output=True, text=True, timeout=90)


def test_a_browser_shows_stream_and_figures(tmp_path: Path) -> None:
    """Headless Chromium: the figures are in the page, the picture has loaded, and the console is quiet."""
    show = Show(size=(480, 640))
    try:
        done = browse(show.port, tmp_path)
    finally:
        show.close()
    assert ">running<" in done.stdout and "<dt>people</dt><dd>1</dd>" in done.stdout
    assert "fixed none fp32" in done.stdout and "ms</dd>" in done.stdout
    assert show.drawn > 0, "the stream was asked for"
    assert "CONSOLE" not in done.stderr


def test_a_page_asks_for_its_stream_again_when_it_has_ended(show: Show, tmp_path: Path) -> None:
    """As after the sleep of a phone: the figures come as before, and the picture must not stand still unseen."""
    picture, asked = show.served.picture, []

    def cut_once(after: int, patience_s: float) -> tuple[int, bytes] | None:
        asked.append(after)
        if len(asked) == 2:
            raise OSError("the network is gone")
        return picture(after, patience_s)

    show.served.picture = cut_once  # type: ignore[method-assign]
    assert ">running<" in browse(show.port, tmp_path, 9000).stdout
    assert asked.count(0) == 2, "a stream begins after picture number 0"
