"""The collector's side of the server: it offers the scan, queues pieces, answers beats, and takes results.

The server only carries. What counts is decided in `board`, `gather` and `leases`, which this module feeds. Everything
on the server may vanish at any moment, with its data folder or without. So nothing is made once: every second `_tend`
makes what is missing, and queues again what the queue has lost.

Everything here runs in the thread of the connection. The thread of the scan takes whole pieces and asks for numbers;
`lock` keeps the two apart.
"""

import asyncio
import threading
import time
from typing import Any

from .._version import __version__
from ..errors import ScanError, UsageError
from . import subjects
from .attempts import Piece
from .board import Board
from .gather import Gather
from .job import Job, digest
from .leases import Leases
from .link import Link, patiently
from .messages import MOST_ROWS, BadMessage, Message, decode, encode

OFFER_SECONDS = 0.5
TEND_SECONDS = 0.5
ACK_WAIT = 10.0  # seconds without a sign of life, until the server gives a piece to another worker
GONE_SECONDS = 60.0  # without an answer of the server, until the scan ends
MOST_PIECES, MOST_RESULTS = 16 << 20, 256 << 20  # bytes of each queue on the server
LEAST_PAYLOAD = 256 << 10  # bytes of a message that the server must take
MOST_WORKERS = 1000
FETCHED, KEPT_DAYS = 32, 7.0  # results at once; how long a queue outlives its collector
DONE_SECONDS = 1.5  # so long workers are told that an interrupted scan is over
_NO_JETSTREAM = "the server has no JetStream: start it with -js"


class Collector:
    """A scan on a server."""

    def __init__(self, link: Link, job: Job, board: Board, gather: Gather, leases: Leases, tag: str | None) -> None:
        self.lock = threading.Lock()
        self.refusals: dict[str, str] = {}  # why workers take no piece, by their names
        self.out = False  # whether a worker has had a lease, so that frames may have left
        self._link, self._job, self._board, self._gather, self._leases = link, job, board, gather, leases
        self._document, self._tag = job.as_message(), tag or subjects.ANY
        self._heard = time.monotonic()  # when the server answered
        self._over = False
        self._names: dict[str, str] = {}
        self._banned: set[str] = set()

    @property
    def lost(self) -> str | None:
        """Why no further results can come; None: they can."""
        if self._link.lost:
            return self._link.lost
        silent = time.monotonic() - self._heard
        return f"no answer of the server for {silent:.0f} s" if silent > GONE_SECONDS else None

    @property
    def workers(self) -> list[str]:
        """The names of the workers that are there."""
        with self.lock:
            return [self._names[worker] for worker in self._leases.present(time.monotonic()) if worker in self._names]

    def ban(self, worker: str) -> None:
        """A worker has sent results that cannot be right: it gets nothing more."""
        with self.lock:
            self._banned.add(worker)
            self._leases.drop(worker)

    def begin(self) -> None:
        """Make the queues, and offer the scan. Raises UsageError, and ScanError."""
        self._link.act(self._begin())
        self._link.start(self._offer())
        self._link.start(self._take())

    def queue_pieces(self) -> None:
        """From now on pieces go into the queue: everything that results need is there."""
        self._link.start(self._tend())

    def end(self, interrupted: bool) -> None:
        """Take nothing more, and leave nothing on the server."""
        self._over = True
        if not self._link.lost:
            self._link.act(self._clear(DONE_SECONDS if interrupted else 0.0))
        self._link.close()

    async def _begin(self) -> None:
        if self._link.nats.max_payload < LEAST_PAYLOAD:
            raise UsageError(
                f"the server takes messages of {self._link.nats.max_payload:,} bytes only: set max_payload to 1MB"
            )
        scan, js = self._job.scan, self._link.js
        await patiently(lambda: js.delete_consumer(subjects.PIECES, scan))
        await patiently(lambda: js.delete_consumer(subjects.ROWS, scan))  # what it has not acknowledged comes again
        await patiently(lambda: js.purge_stream(subjects.PIECES, subject=subjects.piece(scan)))
        await self._make()
        facts = await js.stream_info(subjects.ROWS)
        if 0 < facts.config.max_bytes < 2 * MOST_ROWS:
            raise UsageError(
                f"the stream {subjects.ROWS} of the server is too small for one piece: give it {MOST_RESULTS >> 20} MB"
            )
        await self._link.nats.subscribe(subjects.beat(scan), cb=self._answer)

    async def _make(self) -> None:
        """Everything that this scan needs on the server. Raises UsageError."""
        import nats
        from nats.js.api import ConsumerConfig, DiscardPolicy, RetentionPolicy, StreamConfig

        js, scan, day = self._link.js, self._job.scan, 86400.0
        queues = (subjects.PIECES, subjects.piece, MOST_PIECES), (subjects.ROWS, subjects.rows, MOST_RESULTS)
        try:
            for name, subject, most in queues:
                config = StreamConfig(
                    name=name, subjects=[subject("*")], retention=RetentionPolicy.WORK_QUEUE, max_bytes=most,
                    discard=DiscardPolicy.NEW, max_age=KEPT_DAYS * day,
                )  # fmt: skip
                await _unless_there(js.add_stream(config))
                await js.add_consumer(
                    name, ConsumerConfig(durable_name=scan, filter_subject=subject(scan), ack_wait=ACK_WAIT)
                )
            await _unless_there(js.create_object_store(subjects.BUCKET, ttl=KEPT_DAYS * day))
            await (await js.object_store(subjects.BUCKET)).put(digest(self._document), self._document)
        except nats.js.errors.APIError as error:
            refused = f"the server refuses what a scan needs ({error.description}): see its jetstream block"
            raise UsageError(refused if error.description else _NO_JETSTREAM) from error
        except nats.js.errors.Error as error:
            raise UsageError(_NO_JETSTREAM) from error
        except (nats.errors.Error, asyncio.TimeoutError) as error:
            raise UsageError(
                f"the server does not answer, or these credentials may not make queues ({error})"
            ) from error

    async def _offer(self) -> None:
        job = self._job
        message = encode(
            "offer", scan=job.scan, version=__version__, verb=job.verb, job=digest(self._document),
            bytes=len(self._document),
        )  # fmt: skip
        while not self._over:
            await patiently(lambda: self._link.nats.publish(subjects.offer(self._tag), message))
            await asyncio.sleep(OFFER_SECONDS)

    async def _answer(self, asked: Any) -> None:
        """A beat of a worker."""
        try:
            beat = decode(asked.data, "beat")
        except BadMessage as error:
            self._gather.dropped[str(error)] += 1
            return
        if asked.reply:
            await patiently(lambda: asked.respond(self._lease(beat)))

    def _lease(self, beat: Message) -> bytes:
        worker, number = beat["worker"], beat["number"]
        with self.lock:
            known = worker in self._names or len(self._names) < MOST_WORKERS
            over = self._over or not known or worker in self._banned
            if beat["refuses"] is not None:
                self.refusals[beat["name"]] = beat["refuses"]
                self._leases.leave(worker)
            elif not over:
                self._names[worker] = beat["name"]
                now, wants = time.monotonic(), beat["wants"]
                serial, rate = self._leases.beat(worker, now, beat["holds"], wants, beat["most"])
                self.out = self.out or rate is not None
                return encode("lease", number=number, serial=serial, rate=rate, over=False)
        return encode("lease", number=number, serial=0, rate=None, over=over)

    async def _take(self) -> None:
        """Results, as they come. Each is acknowledged when it is kept."""
        import nats

        results = await self._link.js.pull_subscribe_bind(consumer=self._job.scan, stream=subjects.ROWS)
        while not self._over:
            try:
                messages = await results.fetch(FETCHED, timeout=1)
            except (nats.errors.TimeoutError, asyncio.TimeoutError):
                continue
            except (nats.errors.Error, OSError):  # the queue is gone; `_tend` makes another one
                await asyncio.sleep(TEND_SECONDS)
                continue
            for message in messages:
                with self.lock:
                    self._keep(message.data)
                await patiently(message.ack)

    def _keep(self, data: bytes) -> None:
        try:
            self._gather.take(data)
        except OSError as error:
            raise ScanError(f"cannot keep results in {error.filename}: {error.strerror}") from error

    async def _tend(self) -> None:
        """Keep the queue filled, and make again what the server has lost."""
        while not self._over:
            found = await self._waiting()
            if found is not None:
                self._heard = time.monotonic()
                for piece in self._due(found):
                    if await patiently(lambda piece=piece: self._queue(piece)) is None:  # type: ignore[misc]
                        break  # it is queued again when the queue is empty
            await asyncio.sleep(TEND_SECONDS)

    async def _waiting(self) -> int | None:
        """How many pieces and results wait on the server or are in somebody's hands; None: no answer."""
        import nats

        try:
            # First the pieces: a piece that is done leaves its queue when its results are in the other one.
            count = 0
            for stream in (subjects.PIECES, subjects.ROWS):
                facts = await self._link.js.consumer_info(stream, self._job.scan)
                count += facts.num_pending + facts.num_ack_pending
            return count
        except nats.js.errors.NotFoundError:
            try:
                await self._make()
            except UsageError:
                return None
            return 0
        except (nats.errors.Error, asyncio.TimeoutError, OSError):
            return None

    def _due(self, waiting: int) -> list[Piece]:
        """The pieces to queue now."""
        with self.lock:
            lost = [] if waiting else self._board.under_way
            now = time.monotonic()
            self._gather.workers = present = len(self._leases.present(now))
            return [*lost, *self._board.more(present, self._leases.share(now))]

    async def _queue(self, piece: Piece) -> Any:
        message = encode("piece", scan=self._job.scan, first=piece.first, size=piece.size)
        return await self._link.js.publish(subjects.piece(self._job.scan), message, timeout=2)

    async def _clear(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
        scan, js = self._job.scan, self._link.js
        for stream, subject in ((subjects.PIECES, subjects.piece(scan)), (subjects.ROWS, subjects.rows(scan))):
            await patiently(lambda stream=stream: js.delete_consumer(stream, scan))  # type: ignore[misc]
            await patiently(lambda stream=stream, subject=subject: js.purge_stream(stream, subject=subject))  # type: ignore[misc]
        store = await patiently(lambda: js.object_store(subjects.BUCKET))
        if store:
            await patiently(lambda: store.delete(digest(self._document)))


async def _unless_there(making: Any) -> None:
    """Make something on the server that may be there already, also with other settings by its owner."""
    import nats

    try:
        await making
    except nats.js.errors.BadRequestError as error:
        if error.err_code != 10058:  # stream name already in use with a different configuration
            raise
