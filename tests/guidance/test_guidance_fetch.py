"""Asking over a real HTTP server: what is taken, what is refused, and when it is tried again."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise

import pytest

from edge_agent.errors import NetworkError
from edge_agent.guidance.fetch import DAY_S, FIRST_WAIT_S, LAST_WAIT_S, Asking, get
from edge_agent.guidance.sources.background import Background
from edge_agent.guidance.sources.open_meteo import OpenMeteo
from tests.guidance.test_guidance_sources import NOW, STATION, background, open_meteo


class Server(ThreadingHTTPServer):
    """Answers with `status`, `headers` and `body`; counts questions."""

    daemon_threads = True
    status, headers, body, slow = 200, {}, b"{}", 0.0

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[str] = []
        self.url = f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        self.send_response(self.server.status)
        for name, value in self.server.headers.items():
            self.send_header(name, value)
        self.end_headers()
        for start in range(0, len(self.server.body), 65_536):
            try:
                self.wfile.write(self.server.body[start : start + 65_536])
            except OSError:
                return
            time.sleep(self.server.slow)

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as one:
        thread = threading.Thread(target=one.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield one
        one.shutdown()
        thread.join()


def test_a_background_is_fetched_and_read(server):
    server.body = background()
    source = Background(server.url)
    found = source.parse(get(source.url(STATION), http=True), NOW)
    assert server.asked == ["/v1/background?lat=47.4&lon=8.5"]
    assert found.elevation_m == 450.0


def test_without_tls_nothing_is_asked_unless_it_is_allowed(server):
    with pytest.raises(NetworkError, match="allow_http"):
        get(server.url)
    for address in ("file:///etc/hostname", "ftp://127.0.0.1/x"):
        with pytest.raises(NetworkError, match="only https"):
            get(address, http=True)
    assert not server.asked


def test_an_endless_answer_is_cut_off(server):
    server.body = b"x" * 300_000
    with pytest.raises(NetworkError, match="more than"):
        get(server.url, http=True, most=100_000)


def test_a_slow_answer_is_given_up(server):
    server.body, server.slow = b"x" * 65_536 * 50, 0.05
    with pytest.raises(NetworkError):
        get(server.url, http=True, timeout_s=0.3)


def test_nobody_there_is_a_network_error():
    with pytest.raises(NetworkError, match="no answer"):
        get("http://127.0.0.1:9/", http=True, timeout_s=1.0)


def test_a_redirect_is_not_followed(server):
    server.status, server.headers = 302, {"Location": "http://127.0.0.1:9/elsewhere"}
    with pytest.raises(NetworkError, match="302"):
        get(server.url, http=True)


def test_the_query_with_its_key_is_never_told(server):
    server.status = 401
    with pytest.raises(NetworkError) as refused:
        get(f"{server.url}/data?appid=secret", http=True)
    assert "secret" not in str(refused.value)
    assert refused.value.retry_s > LAST_WAIT_S


@pytest.mark.parametrize(
    ("word", "least", "most"),
    [("Concurrent", 60, 60), ("Minutely", 60, 60), ("Hourly", 3600, 3600), ("Daily", 60, DAY_S + 60)],
)
def test_a_spent_limit_says_how_long_it_lasts(server, word, least, most):
    server.status = 429
    server.body = f'{{"error": true, "reason": "{word} API request limit exceeded."}}'.encode()
    with pytest.raises(NetworkError, match=word) as refused:
        get(server.url, http=True)
    assert least <= refused.value.retry_s <= most


def test_retry_after_is_heeded(server):
    server.status, server.headers = 429, {"Retry-After": "120"}
    with pytest.raises(NetworkError) as refused:
        get(server.url, http=True)
    assert refused.value.retry_s == 120


def test_the_next_source_is_asked_where_one_fails_and_none_before_its_time():
    asked: list[str] = []

    def fetch(url: str) -> bytes:
        asked.append(url.partition("?")[0])
        if "first" in url:
            raise NetworkError("away", retry_s=5000.0)
        return open_meteo(temperature_2m=[1.0, 2.0])

    asking = Asking([Background("https://first.example"), OpenMeteo("https://second.example")], 3600, fetch)
    assert asking.ask(STATION, NOW, 0.0) is not None
    assert asking.ask(STATION, NOW, 3599.0) is None
    assert asking.ask(STATION, NOW, 3600.0) is not None
    assert [url.partition("/v1")[0] for url in asked] == ["https://first.example", *["https://second.example"] * 2]
    asking.ask(STATION, NOW, 7200.0)
    assert sum("first" in url for url in asked) == 2
    assert asking.failures == {"background": 2}


def test_a_source_that_stays_away_is_asked_ever_less_often():
    times: list[float] = []
    now = 0.0

    def fetch(url: str) -> bytes:
        times.append(now)
        raise NetworkError("away")

    asking = Asking([OpenMeteo()], 3600, fetch, uniform=lambda low, high: high)
    for now in range(0, 40_000, 10):
        asking.ask(STATION, NOW, float(now))
    waits = [b - a for a, b in pairwise(times)]
    assert waits[0] == FIRST_WAIT_S
    assert waits == sorted(waits)
    assert waits[-1] == LAST_WAIT_S
    assert "Trying again" in asking.trouble
