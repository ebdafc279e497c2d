"""Fetching guidance: one bounded GET, and when to try again.

Must never wait without a limit, take more than it asked for, follow a redirect, or ask again where it was told not to.
"""

from __future__ import annotations

import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from email.message import Message
from http.client import HTTPException
from urllib.parse import urlsplit

import msgspec

from edge_agent import __version__
from edge_agent.backoff import Backoff
from edge_agent.config import Station
from edge_agent.errors import DataError, NetworkError
from edge_agent.guidance.sources import Guidance, Source

MOST_BYTES = 4_000_000
TIMEOUT_S = 20.0
CHUNK = 65_536
MOST_WAIT_S = 86_400.0
FIRST_WAIT_S, LAST_WAIT_S = 30.0, 3600.0
DAY_S = 86_400
REFUSED_S = 6 * 3600.0  # until a request that was called wrong is tried again
LIMITS_S = {"concurrent": 60.0, "minutely": 60.0, "hourly": 3600.0}  # as Open-Meteo's 429 names them


def get(url: str, *, http: bool = False, timeout_s: float = TIMEOUT_S, most: int = MOST_BYTES) -> bytes:
    """The body of an answer 200.

    Args:
        http: whether an address without TLS will do.
        timeout_s: for the whole of it.

    Raises:
        NetworkError: no answer, too long a one, or another one; `retry_s`: not before so many seconds.
    """
    parts = urlsplit(url)
    where = f"{parts.scheme}://{parts.netloc}{parts.path}"  # never the query: it may hold a key
    if parts.scheme not in (("https", "http") if http else ("https",)):
        raise NetworkError(f"{where}: only https is allowed here; set allow_http where the network is your own")
    request = urllib.request.Request(url, headers={"User-Agent": f"stationcast/{__version__}"})
    deadline = time.monotonic() + timeout_s
    try:
        with _OPENER.open(request, timeout=timeout_s) as answer:
            body = bytearray()
            while block := answer.read1(CHUNK):
                body += block
                if len(body) > most:
                    raise NetworkError(f"{where}: an answer of more than {most / 1e6:g} MB", retry_s=REFUSED_S)
                if time.monotonic() > deadline:
                    raise NetworkError(f"{where}: the answer took more than {timeout_s:g} s")
            return bytes(body)
    except urllib.error.HTTPError as error:
        with error:
            raise _refusal(where, error.code, error.headers, error.read1(CHUNK)) from None
    except (OSError, HTTPException, ValueError) as error:
        why = getattr(error, "reason", None) or error
        raise NetworkError(f"{where}: no answer ({why})") from None


def _refusal(where: str, status: int, headers: Message, body: bytes) -> NetworkError:
    reason = _reason(body)
    told = f"{where}: answered {status}{f' ({reason})' if reason else ''}"
    if status == 429:
        return NetworkError(f"{told}: asked too often", retry_s=_limit_s(reason, headers.get("Retry-After")))
    if 400 <= status < 500:
        return NetworkError(f"{told}: check the place and the key", retry_s=REFUSED_S)
    return NetworkError(told)


def _limit_s(reason: str, after: str | None) -> float:
    """How long a spent limit lasts: as Retry-After has it, as the reason names it, else an hour."""
    if after is not None and after.strip().isdigit():
        return min(float(after), MOST_WAIT_S)
    word = reason.lower()
    if "daily" in word:
        return DAY_S - time.time() % DAY_S + 60.0
    return next((wait for name, wait in LIMITS_S.items() if name in word), 3600.0)


def _reason(body: bytes) -> str:
    """What an error's body says, in one line."""
    try:
        told = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return ""
    if not isinstance(told, dict):
        return ""
    return " ".join(str(told.get("reason") or told.get("message") or "").split())[:200]


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """An answer that sends us elsewhere is an error: elsewhere was not configured."""

    def redirect_request(self, *_: object) -> None:
        return None


_OPENER = urllib.request.build_opener(_NoRedirect)


class Asking:
    """When to ask which source for one station: the first that answers is taken, one that fails is left alone for
    longer each time, or as long as it says.

    Args:
        refresh_s: after an answer, until the next question.
        fetch: as `get`.
    """

    def __init__(
        self, sources: Sequence[Source], refresh_s: float, fetch: Callable[[str], bytes],
        uniform: Callable[[float, float], float] | None = None,
    ) -> None:  # fmt: skip
        self._sources, self._refresh_s, self._fetch = list(sources), refresh_s, fetch
        more = {} if uniform is None else {"uniform": uniform}
        self._backoff = [Backoff(FIRST_WAIT_S, LAST_WAIT_S, **more) for _ in sources]
        self._not_before = [float("-inf")] * len(self._sources)
        self.due = float("-inf")
        self.failures: dict[str, int] = {}
        self.trouble = ""

    def ask(self, station: Station, now: float, steady: float) -> Guidance | None:
        """Guidance, if it is due and a source has it. `now`, `steady`: as `Clock.now` and `Clock.monotonic`."""
        if steady < self.due:
            return None
        troubles = []
        for i, source in enumerate(self._sources):
            if steady < self._not_before[i]:
                continue
            try:
                found = source.parse(self._fetch(source.url(station)), int(now))
            except (NetworkError, DataError) as error:
                wait = max(self._backoff[i].failed(), getattr(error, "retry_s", 0.0))
                self._not_before[i] = steady + wait
                self.failures[source.name] = self.failures.get(source.name, 0) + 1
                troubles.append(f"{source.name}: {error}. Trying again in {wait:.0f} s")
                continue
            self._backoff[i] = Backoff(FIRST_WAIT_S, LAST_WAIT_S)
            self.due, self.trouble = steady + self._refresh_s, ""
            return found
        self.trouble = "; ".join(troubles) or self.trouble
        self.due = min(self._not_before)
        return None
