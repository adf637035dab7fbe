"""The connection to the server, in a thread with an event loop of its own.

A scan is a loop that sends and receives packets, and nats-py is asyncio. So the connection lives in a second thread,
and the two exchange values. The connection is made anew for ever when it is lost; only the first attempt can fail, with
one line that says why.

A password must not stand on the command line, where every user of the machine sees it. It comes from the environment,
or from a file of credentials. Without TLS it would cross the network in the clear, as would targets and results, so
plain text goes to private addresses only, unless the user insists.

With TLS the handshake comes first (`handshake_first` in the server's configuration). Otherwise the server's first line
says in plain text whether there is TLS, and whoever stands between could say that there is none.
"""

import asyncio
import os
import socket
import ssl
import threading
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from contextlib import suppress
from ipaddress import ip_address
from typing import Any, NamedTuple, TypeVar
from urllib.parse import urlsplit

from ..errors import ScanError, UsageError

USER, PASSWORD = "HALFOPEN_NATS_USER", "HALFOPEN_NATS_PASSWORD"
CONNECT_SECONDS, RETRY_SECONDS = 5, 0.25
_PORT = 4222
Result = TypeVar("Result")


class Access(NamedTuple):
    """How to reach a server, as the user gave it."""

    url: str
    tls_ca: str | None = None
    creds: str | None = None
    insecure: bool = False
    environment: Mapping[str, str] = os.environ


class Link:
    """A connection. `act` runs coroutines in its thread; they find the connection in `nats` and `js`."""

    def __init__(self, access: Access, name: str, prepare: Callable[[], None] = lambda: None) -> None:
        """Connect. `prepare` is called in the new thread first. Raises UsageError."""
        self._access, self._name = access, name
        self.nats: Any = None
        self.js: Any = None
        self.lost: str | None = None  # why there will be no connection any more
        options = _options(access)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, args=(prepare,), daemon=True)
        self._thread.start()
        try:
            self.act(self._connect(options))
        except UsageError:
            self._stop()
            raise

    def act(self, work: Coroutine[Any, Any, Result]) -> Result:
        """Run a coroutine to its end and return its result."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def start(self, work: Coroutine[Any, Any, None]) -> None:
        """Run a coroutine beside everything else. What it raises ends the connection, and is in `lost`."""
        asyncio.run_coroutine_threadsafe(self._kept(work), self._loop)

    async def _kept(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except ScanError as error:
            self.lost = str(error)
        except Exception as error:
            self.lost = f"the connection to the server failed ({error!r})"
            raise

    def close(self) -> None:
        """End the connection and its thread."""
        with suppress(Exception):
            asyncio.run_coroutine_threadsafe(self.nats.close(), self._loop).result(CONNECT_SECONDS)
        self._stop()

    def _stop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(CONNECT_SECONDS)

    def _run(self, prepare: Callable[[], None]) -> None:
        asyncio.set_event_loop(self._loop)
        prepare()
        self._loop.run_forever()
        if left := asyncio.all_tasks(self._loop):
            for task in left:
                task.cancel()
            self._loop.run_until_complete(asyncio.wait(left, timeout=1.0))
        self._loop.close()

    async def _connect(self, options: dict[str, Any]) -> None:
        import nats

        failed: asyncio.Future[Exception] = asyncio.get_running_loop().create_future()

        async def error_cb(error: Exception) -> None:
            if not failed.done():
                failed.set_result(error)

        async def closed_cb() -> None:
            self.lost = self.lost or "the server ended the connection"

        connecting = asyncio.ensure_future(
            nats.connect(
                self._access.url, name=self._name, error_cb=error_cb, closed_cb=closed_cb, max_reconnect_attempts=-1,
                reconnect_time_wait=RETRY_SECONDS, connect_timeout=CONNECT_SECONDS, ping_interval=2,
                max_outstanding_pings=2, **options,
            )
        )  # fmt: skip
        await asyncio.wait([connecting, failed], timeout=CONNECT_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        if connecting.done() and not connecting.exception():
            self.nats = connecting.result()
            self.js = self.nats.jetstream(timeout=2)
            failed.cancel()
            return
        connecting.cancel()
        cause = connecting.exception() if connecting.done() and not connecting.cancelled() else None
        raise UsageError(_cause(self._access.url, failed.result() if failed.done() else cause))


def _cause(url: str, error: BaseException | None) -> str:
    """Why there is no connection, and what to do."""
    text = str(error or "no answer").removeprefix("nats: ").strip("'\"")
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the certificate of {url} is not trusted ({error.verify_message}): name its authority with --tls-ca"
    if isinstance(error, ssl.SSLError):
        return f"{url} does not begin with TLS ({error.reason}): its tls block needs handshake_first: true"
    if "authorization" in text.lower():
        return f"{url} refuses these credentials: set {USER} and {PASSWORD}, or give --creds FILE"
    if isinstance(error, FileNotFoundError):
        return f"there is no file {error.filename}"
    if isinstance(error, ModuleNotFoundError):
        return f"--creds needs the package {error.name}: pip install 'halfopen[fleet]'"
    return f"no server at {url} ({text}): start nats-server -js there, or name another one"


def _options(access: Access) -> dict[str, Any]:
    """The arguments of nats.connect. Raises UsageError."""
    try:
        import nats  # noqa: F401
    except ImportError:
        raise UsageError("a fleet needs nats-py: pip install 'halfopen[fleet]'") from None
    try:
        parts = urlsplit(access.url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        host = None
    if not host or parts.scheme not in ("nats", "tls"):
        raise UsageError(f"{access.url!r} is no address of a server: write nats://HOST:4222, or tls://HOST:4222")
    if parts.username or parts.password:
        raise UsageError(f"leave user and password out of the address: set {USER} and {PASSWORD}")
    options: dict[str, Any] = {}
    if parts.scheme == "tls" or access.tls_ca:
        options |= {"tls": _context(access.tls_ca), "tls_hostname": host, "tls_handshake_first": True}
    elif not access.insecure and not _is_private(host, parts.port or _PORT):
        raise UsageError(f"{host} is no private address, and nats:// is plain text: use tls://, or add --insecure")
    if access.creds:
        if not os.access(access.creds, os.R_OK):
            raise UsageError(f"--creds {access.creds} cannot be read")
        options["user_credentials"] = access.creds
    if user := access.environment.get(USER):
        options |= {"user": user, "password": access.environment.get(PASSWORD, "")}
    return options


def _context(authority: str | None) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=authority)
    except (OSError, ssl.SSLError) as error:
        raise UsageError(f"--tls-ca {authority} holds no certificate that can be read ({error})") from None


def _is_private(host: str, port: int) -> bool:
    """Whether every address of the host is one of a private network. Raises UsageError."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise UsageError(f"the server's name {host} has no address ({error.strerror})") from None
    return all(ip_address(str(each[4][0]).partition("%")[0]).is_private for each in found)


async def patiently(ask: Callable[[], Awaitable[Result]]) -> Result | None:
    """The result of a request; None where the server did not answer or refused."""
    import nats

    try:
        return await ask()
    except (nats.errors.Error, asyncio.TimeoutError, OSError):
        return None
