"""Fetches over HTTP politely: a rate limit shared by all threads and runs, pauses, retries, resumed downloads.

Neither urllib3's Retry nor a rate limiter library does this: Retry does not see a body that breaks off or fails its
check, nor makes other threads and the next run wait too, and sleeps where Ctrl-C should end it; limiters count when
requests begin, while here the next one waits until the last was answered.
"""

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from email.utils import parsedate_to_datetime
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urljoin, urlsplit

import requests
from filelock import FileLock, Timeout
from requests import Response
from tqdm import tqdm
from urllib3.exceptions import HTTPError

from trainer.errors import UnavailableError, UserError
from trainer.files import write_whole
from trainer.progress import progress

USER_AGENT = f"Manasight/{version('manasight')} (+https://github.com/manasight/manasight)"
TRIES = 4
BACK_OFF = 1.0  # seconds before the second try; doubled for each further one
PAUSE = 60.0  # seconds after a 429 that names no time
LONGEST_PAUSE = 900.0  # seconds; a longer one ends the run
PAUSES = 5  # that one request waits for
TIMEOUT = (10.0, 30.0)  # seconds to connect, and between two bytes
LONGEST_BODY = 300.0  # seconds that an image or page may take
LARGEST_BODY = 64 << 20  # its bytes
REDIRECTS = 5
DAY = 24 * 3600.0  # seconds that an answer is kept
CHUNK = 1 << 16


class FetchError(Exception):
    """Why an address could not be fetched, without the address."""


class RefusedError(FetchError):
    """The server refused; another try would not help."""


def fetch_failed(message: str, error: FetchError) -> UserError:
    """The exception that ends a command because something could not be fetched."""
    return (UserError if isinstance(error, RefusedError) else UnavailableError)(message)


class Answer(NamedTuple):
    """The body of a good answer, and its content type."""

    body: bytes
    content_type: str


class Pace:
    """Lets requests go one after the other. A small file has the time of the next one: threads, other runs and the next
    run after a kill keep to it, and to a pause that the server asked for."""

    def __init__(self, file: Path, interval: float, stopped: threading.Event) -> None:
        """Nothing is written before the first turn.

        Args:
            file: has the time of the next request; a lock file is beside it.
            interval: seconds from an answer to the next request.
            stopped: set to end a wait.
        """
        self.file, self.interval, self.stopped = file, interval, stopped
        self._turn = threading.Lock()  # a file lock is polled: fine between runs, unfair between threads
        self._lock = FileLock(f"{file}.lock")
        self._paused_until = 0.0

    @contextmanager
    def turn(self) -> Iterator[None]:
        """The block asks and has its answer; the next one starts `interval` seconds later. So the server sees no more
        than that, however long a request is under way.

        Raises:
            UserError: if the next free moment is further away than a run waits.
        """
        with self._turn, self._lock:
            while (delay := self._next() - time.time()) > 0:
                if delay > LONGEST_PAUSE:
                    raise UnavailableError(
                        f"the server asked for a pause; run the same command again in {delay / 60:.0f} min"
                    )
                if self.stopped.wait(delay):
                    raise RefusedError("stopped")
            self._write()
            try:
                yield
            finally:
                self._write()

    def pause(self, seconds: float) -> None:
        """Within a turn: let none follow for so long."""
        self._paused_until = time.time() + seconds

    def _write(self) -> None:
        self.file.write_text(repr(max(time.time() + self.interval, self._paused_until)))

    def _next(self) -> float:
        try:
            found = float(self.file.read_text())
        except (OSError, ValueError):
            return 0.0
        return found if found - time.time() <= DAY else 0.0  # no pause is longer: the file is damaged


class Web:
    """An HTTP client with a pace per host, and slower ones for some paths.

    Args:
        cache: a folder for answers and for the files of the paces.
        interval: seconds from the answer of one host to the next request.
        slow_paths: path prefix → the same, for what is below it.
    """

    def __init__(self, cache: Path, interval: float, slow_paths: dict[str, float] | None = None) -> None:
        self.cache, self.interval, self.slow_paths = cache, interval, slow_paths or {}
        self.cache.mkdir(parents=True, exist_ok=True)
        self.stopped = threading.Event()
        self.session = requests.Session()
        # A library's own user agent is refused by some servers, and tells nobody who is asking.
        self.session.headers.update({"User-Agent": USER_AGENT, "Accept": "*/*"})
        self._paces: dict[str, Pace] = {}
        self._guard = threading.Lock()

    def fetch(self, url: str, check: Callable[[Answer], None] = lambda _: None) -> Answer:
        """GET `url`.

        Args:
            url: the address.
            check: raises FetchError for an answer that is damaged; it is then asked for again.

        Raises:
            FetchError: if it cannot be fetched.
            UnavailableError: if the server asks for a longer pause than a run waits for.
        """

        def read(response: Response) -> Answer:
            body, deadline = bytearray(), time.monotonic() + LONGEST_BODY
            for chunk in response.iter_content(CHUNK):
                body += chunk
                if len(body) > LARGEST_BODY:
                    raise RefusedError(f"more than {LARGEST_BODY >> 20} MB")
                if time.monotonic() > deadline:
                    raise FetchError(f"not there after {LONGEST_BODY:.0f} s")
                self._check_stopped()
            answer = Answer(bytes(body), response.headers.get("Content-Type", ""))
            check(answer)
            return answer

        return self._tried(lambda: self._answer(url), read)

    def fetch_json(self, url: str) -> Any:
        """The JSON at `url`, or what was there at most a day ago.

        Raises:
            FetchError, UnavailableError: as `fetch`.
        """
        file = self._kept(url)
        if is_fresh(file):
            with suppress(ValueError, RecursionError):  # damaged on disk
                return json.loads(file.read_bytes())
        body = self.fetch(url, _check_json).body
        write_whole(file, body)
        return json.loads(body)

    def forget(self, url: str) -> None:
        """Ask again next time: the cached JSON of `url` is useless."""
        self._kept(url).unlink(missing_ok=True)

    def download(self, url: str, file: Path, title: str) -> None:
        """Stream `url` into `file`. What a killed run had fetched is kept, and only the rest is asked for.

        Raises:
            FetchError, UnavailableError: as `fetch`.
        """
        part = file.with_name(f"{file.name}.part")
        lock = FileLock(f"{part}.lock")
        while True:  # another run may be at it; Ctrl-C and `close` end the wait
            try:
                lock.acquire(timeout=1)
                break
            except Timeout:
                self._check_stopped()

        def ask() -> Any:
            kept = part.stat().st_size if part.exists() else 0
            return self._answer(url, {"Range": f"bytes={kept}-"} if kept else {})

        def read(response: Response) -> None:
            if response.status_code == 416:  # nothing is left to ask for, or the file is another one now
                part.unlink()
                raise FetchError("the rest cannot be fetched")
            kept = part.stat().st_size if response.status_code == 206 else 0
            length = response.headers.get("Content-Length")
            total = kept + int(length) if length else None
            with (
                part.open("ab" if kept else "wb") as target,
                progress(None, title, total, unit="B", unit_scale=True, initial=kept) as bar,
            ):
                # As sent: what is compressed on the way stays so on disk, and can be resumed.
                while chunk := response.raw.read(CHUNK, decode_content=False):
                    bar.update(target.write(chunk))
                    self._check_stopped()

        try:
            if not file.exists():
                self._tried(ask, read)
                part.replace(file)
        finally:
            lock.release()

    def close(self) -> None:
        """Wake who waits and end who reads."""
        self.stopped.set()
        self.session.close()

    def _kept(self, url: str) -> Path:
        return self.cache / f"{sha256(url.encode()).hexdigest()[:32]}.json"

    def _tried(self, ask: Callable[[], Any], read: Callable[[Response], Any]) -> Any:
        problem: Exception | None = None
        for attempt in range(TRIES):
            if attempt and self.stopped.wait(BACK_OFF * 2 ** (attempt - 1)):
                break
            try:
                with ask() as response:
                    return read(response)
            except RefusedError:
                raise
            except (FetchError, HTTPError, requests.RequestException, ValueError) as error:
                if isinstance(error, ValueError):
                    raise RefusedError(f"not an address to fetch ({error})") from error
                problem = error
        self._check_stopped()
        reason = problem if isinstance(problem, FetchError) else f"the connection failed ({_reason(problem)})"
        raise FetchError(f"{reason}, {TRIES} times")

    @contextmanager
    def _answer(self, url: str, headers: dict[str, str] | None = None) -> Iterator[Response]:
        """Ask, at the pace of every host on the way; wait when asked to.

        Raises:
            RefusedError: for a status that asking again will not change.
            FetchError: for one that it may.
            UnavailableError: for a pause that is too long.
        """
        hops = pauses = 0
        while True:
            with ExitStack() as turns:
                paces = self._paces_of(url)
                for pace in paces:
                    turns.enter_context(pace.turn())
                response = self.session.get(url, headers=headers, stream=True, timeout=TIMEOUT, allow_redirects=False)
                status = response.status_code
                if status == 429:
                    seconds = retry_after(response.headers.get("Retry-After", ""))
                    paces[-1].pause(seconds)
            with response:
                if response.is_redirect and hops < REDIRECTS:
                    hops, url = hops + 1, urljoin(url, response.headers["Location"])
                    continue
                if status == 429 and pauses < PAUSES:
                    pauses += 1
                    tqdm.write(f"{urlsplit(url).netloc} asks for a pause of {seconds:.0f} s")
                    continue
                if status >= 500 or status in (408, 425):
                    raise FetchError(f"the server answers {status}")
                if status not in (200, 206, 416) or (status == 416 and not headers):
                    raise RefusedError(f"the server answers {status}{_details(response)}")
                yield response
                return

    def _paces_of(self, url: str) -> list[Pace]:
        """The slow path's pace first: a pause that it waits for takes no turn of its host's."""
        parts = urlsplit(url)
        slow = [path for path in self.slow_paths if parts.path.startswith(path)]
        names = {f"{parts.netloc}{path}": self.slow_paths[path] for path in slow} | {parts.netloc: self.interval}
        with self._guard:
            for name, interval in names.items():
                if name not in self._paces:
                    file = self.cache / f"pace-{sha256(name.encode()).hexdigest()[:16]}"
                    self._paces[name] = Pace(file, interval, self.stopped)
            return [self._paces[name] for name in names]

    def _check_stopped(self) -> None:
        if self.stopped.is_set():
            raise RefusedError("stopped")


def retry_after(value: str) -> float:
    """Seconds that a Retry-After header asks for: a number, a date, or a minute if it says nothing."""
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(value).timestamp() - time.time()
        except (ValueError, OverflowError):
            seconds = PAUSE
    # Kept on disk: what makes no sense must not end all later runs.
    return min(max(0.0, seconds), DAY) if seconds == seconds else PAUSE


def is_fresh(file: Path) -> bool:
    """Whether the file is there and at most a day old."""
    return file.exists() and time.time() - file.stat().st_mtime < DAY


def _check_json(answer: Answer) -> None:
    try:
        json.loads(answer.body)
    except (ValueError, RecursionError) as error:
        raise FetchError(f"the answer is not JSON ({error})") from error


def _details(response: Response) -> str:
    """What the server says about its refusal, if it says so in JSON."""
    try:
        details = response.json().get("details")
    except (ValueError, AttributeError, requests.RequestException):
        return ""
    return f" ({' '.join(str(details).split())[:300]})" if details else ""


def _reason(error: Exception | None) -> str:
    """The innermost cause, which is what a person can do something about."""
    while error and (inner := error.__cause__ or error.__context__ or next(_inner(error), None)):
        error = inner
    return str(error) or type(error).__name__


def _inner(error: Exception) -> Iterator[Exception]:
    yield from (argument for argument in error.args if isinstance(argument, Exception))
    if isinstance(reason := getattr(error, "reason", None), Exception):
        yield reason
