"""The worker's side of the server: it hears offers, asks for leases, takes pieces, and publishes their results.

A worker only connects outward. It takes a piece when it is idle, waits until it has a lease, and hands the piece to the
engine, which runs in the main thread. While the engine advances, the worker tells the server so every two seconds. If
it dies, the server gives the piece to another worker ten seconds later. When all results of a piece are stored by the
server, and not before, the worker acknowledges the piece.

Results are published with acknowledgement. A plain publish into a full stream vanishes without an error. While the
stream is full the worker waits and tries again, and sends no packets.
"""

import asyncio
import os
import queue
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from ..errors import ScanError, escaped
from ..verdict.sentences import plural
from . import subjects
from .attempts import Piece
from .job import Job, digest, job_of, piece_of
from .leases import LEASE_SECONDS, Allowance, Lease
from .limits import Limits, refusal, refusal_of_offer
from .link import Link, patiently
from .messages import MOST_JOB, MOST_ROWS, BadMessage, Message, decode, encode, with_rows
from .scanning import Done, Task, scan_piece

BEAT_SECONDS, QUICK_BEAT_SECONDS = 1.0, 0.25  # usually, and while a worker waits for a lease
ANSWER_SECONDS = 1.0
FRESH_SECONDS = 4.0  # an offer that was not repeated for so long is over
PATIENCE = 8.0  # seconds that a piece waits for a lease, below the time after which the server gives it away
SIGN_SECONDS = 2.0  # between two signs that the engine advances
STUCK_SECONDS = 3.0  # without a turn of the engine: no more signs
PUBLISH_SECONDS = 120.0  # results that the server does not take for so long are dropped
FAILED_SECONDS = 10.0  # pause after a piece that failed here, so that others may try it
JOB_SECONDS = 60.0
HEAD = 4096  # bytes of a message beside its rows


def boot_time() -> float:
    """Seconds of a clock that runs on while the machine sleeps or the process is stopped."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class _Scan:
    """A scan that was offered to this worker."""

    def __init__(self, offer: Message) -> None:
        self.offer, self.seen = offer, boot_time()
        self.job: Job | None = None
        self.refuses: str | None = None
        self.allowance = Allowance()
        self.wants = self.beats = False
        self.pulled: Any = None
        self.pause_until = 0.0


class Worker:
    """One machine of a fleet."""

    def __init__(
        self, link: Link, name: str, tags: tuple[str, ...], limits: Limits, say: Callable[[str], None]
    ) -> None:
        self._link, self._name, self._tags, self._limits, self._say = link, name, tags, limits, say
        self._id = os.urandom(8).hex()
        self._scans: dict[str, _Scan] = {}
        self._tasks: queue.Queue[tuple[Task, asyncio.Future[Done]]] = queue.Queue()
        self._advanced = 0.0  # when the engine last took a turn
        self._stopped = threading.Event()

    def run(self) -> None:
        """Work until `stop` is called. Raises ScanError when the server refuses this worker for good."""
        self._link.act(self._listen())
        self._link.start(self._serve())
        while not self._stopped.is_set():
            if self._link.lost:
                raise ScanError(self._link.lost)
            with suppress(queue.Empty):
                task, done = self._tasks.get(timeout=0.1)
                result = scan_piece(task, self._say)
                done.get_loop().call_soon_threadsafe(_settle, done, result)

    def stop(self) -> None:
        """Send nothing more, and give back the piece in hand."""
        self._stopped.set()

    def close(self) -> None:
        """Say good-bye."""
        with suppress(Exception):
            self._link.act(self._leave())
        self._link.close()

    async def _listen(self) -> None:
        for tag in (subjects.ANY, *self._tags):
            await self._link.nats.subscribe(subjects.offer(tag), cb=self._hear)

    async def _hear(self, message: Any) -> None:
        with suppress(BadMessage):
            offer = decode(message.data, "offer")
            known = self._scans.get(offer["scan"])
            if known is None or known.offer != offer:
                known = self._scans[offer["scan"]] = _Scan(offer)
                known.refuses = refusal_of_offer(offer, self._limits)
            known.seen = boot_time()

    def _fresh(self, scan: _Scan) -> bool:
        return boot_time() - scan.seen < FRESH_SECONDS and self._scans.get(scan.offer["scan"]) is scan

    async def _serve(self) -> None:
        """Take pieces of each scan in turn."""
        while not self._stopped.is_set():
            self._scans = {name: scan for name, scan in self._scans.items() if self._fresh(scan)}
            for scan in list(self._scans.values()):
                if scan.job is None and scan.refuses is None:
                    await self._load(scan)
                if (scan.job or scan.refuses) and not scan.beats:  # who has not decided is not there
                    scan.beats = True
                    self._link.start(self._beats(scan))
                if scan.job and boot_time() >= scan.pause_until and (message := await self._pull(scan)):
                    await self._work(scan, scan.job, message)
            await asyncio.sleep(0.05)

    async def _load(self, scan: _Scan) -> None:
        """The job of a scan, if this worker may do it."""
        document = await self._document(scan.offer)
        if document is None:
            return
        try:
            if len(document) > MOST_JOB or digest(document) != scan.offer["job"]:
                raise BadMessage("it is another document")
            job = job_of(document)
            if (job.scan, job.verb) != (scan.offer["scan"], scan.offer["verb"]):
                raise BadMessage("it is of another scan")
        except BadMessage as error:
            scan.refuses = f"the job cannot be read: {error}"
        else:
            scan.refuses = refusal(job, self._limits)
            scan.job = None if scan.refuses else job
        self._say(f"scan {scan.offer['scan']}: {scan.refuses or 'taking pieces'}")

    async def _document(self, offer: Message) -> bytes | None:
        async def get() -> bytes:
            store = await self._link.js.object_store(subjects.BUCKET)
            facts = await store.get_info(offer["job"])
            if facts.size != offer["bytes"] or facts.is_link():
                return b""
            return bytes((await store.get(offer["job"])).data)

        return await patiently(lambda: asyncio.wait_for(get(), JOB_SECONDS))

    async def _beats(self, scan: _Scan) -> None:
        """Ask for leases as long as the scan is offered."""
        while self._fresh(scan) and not self._stopped.is_set():
            await self._beat(scan)
            waiting = scan.wants and scan.allowance.rate(boot_time()) is None
            await asyncio.sleep(QUICK_BEAT_SECONDS if waiting else BEAT_SECONDS)

    async def _beat(self, scan: _Scan) -> None:
        number, holds = scan.allowance.ask(boot_time())
        beat = encode(
            "beat", worker=self._id, name=self._name, number=number, holds=holds, wants=scan.wants,
            most=self._limits.max_rate, refuses=scan.refuses,
        )  # fmt: skip
        answer = await patiently(
            lambda: self._link.nats.request(subjects.beat(scan.offer["scan"]), beat, timeout=ANSWER_SECONDS)
        )
        if answer is None:
            return
        with suppress(BadMessage):
            lease = decode(answer.data, "lease")
            scan.allowance.answered(lease["number"], Lease(lease["serial"], lease["rate"]))
            if lease["over"]:
                scan.allowance.give_back()
                scan.pause_until = boot_time() + LEASE_SECONDS

    async def _pull(self, scan: _Scan) -> Any:
        """A piece of the queue; None: there is none now."""
        import nats

        js, name = self._link.js, scan.offer["scan"]
        try:
            if scan.pulled is None:
                scan.pulled = await js.pull_subscribe_bind(consumer=name, stream=subjects.PIECES)
            return (await scan.pulled.fetch(1, timeout=1))[0]
        except (nats.errors.Error, asyncio.TimeoutError, OSError):
            if scan.wants:  # another worker may use its share
                await self._give_back(scan)
            return None

    async def _give_back(self, scan: _Scan) -> None:
        scan.wants = False
        scan.allowance.give_back()
        await self._beat(scan)

    async def _work(self, scan: _Scan, job: Job, message: Any) -> None:
        """One piece, from the queue to its acknowledgement."""
        try:
            told = decode(message.data, "piece")
            piece = Piece(told["first"], told["size"])
            part = piece_of(job, job.order, *piece)
            if told["scan"] != job.scan:
                raise BadMessage("it is of another scan")
        except BadMessage as error:
            self._say(f"a piece that cannot be read was dropped: {error}")
            await patiently(message.term)
            return
        if not await self._leased(scan):
            await patiently(message.nak)
            return
        self._say(f"piece {piece.first}: begun, {plural(part.targets, 'target')}")
        done = await self._scanned(Task(job, part, lambda: self._rate(scan), self._most_bytes), message)
        await self._report(scan, piece, done, message)

    @property
    def _most_bytes(self) -> int:
        return min(MOST_ROWS, int(self._link.nats.max_payload) - HEAD)

    def _rate(self, scan: _Scan) -> float | None:
        """What the engine may send now. It asks before each turn."""
        self._advanced = boot_time()
        return None if self._stopped.is_set() else scan.allowance.rate(self._advanced)

    async def _leased(self, scan: _Scan) -> bool:
        """Ask for a lease until there is one."""
        until, scan.wants = boot_time() + PATIENCE, True
        while scan.allowance.rate(boot_time()) is None:
            if boot_time() > until or not self._fresh(scan):
                await self._give_back(scan)
                return False
            await self._beat(scan)
            if scan.allowance.rate(boot_time()) is None:
                await asyncio.sleep(QUICK_BEAT_SECONDS)
        return True

    async def _scanned(self, task: Task, message: Any) -> Done:
        """The engine's result. As long as it takes turns, the server is told so."""
        done: asyncio.Future[Done] = asyncio.get_running_loop().create_future()
        self._advanced = boot_time()
        self._tasks.put((task, done))
        while not done.done():
            await asyncio.wait([done], timeout=SIGN_SECONDS)
            if not done.done() and boot_time() - self._advanced < STUCK_SECONDS:
                await patiently(message.in_progress)
        return done.result()

    async def _report(self, scan: _Scan, piece: Piece, done: Done, message: Any) -> None:
        if done.cut:
            self._say(f"piece {piece.first}: no lease any more, given back")
            await self._give_back(scan)
            await patiently(message.nak)
            return
        head = {
            "scan": scan.offer["scan"], **piece._asdict(), "attempt": os.urandom(8).hex(), "worker": self._id,
        }  # fmt: skip
        texts = [with_rows(encode("rows", **head, batch=at), rows) for at, rows in enumerate(done.batches)]
        texts.append(encode("end", **head, batches=len(texts), failed=done.cause, stats=done.stats))
        for text in texts:
            if not await self._publish(scan, text, message):
                self._say(f"piece {piece.first}: the server takes no results, given back")
                await patiently(message.nak)
                return
        if done.cause is not None:
            self._say(f"piece {piece.first}: {escaped(done.cause)}")
            scan.pause_until = boot_time() + FAILED_SECONDS
            await self._give_back(scan)
            await patiently(message.nak)
        else:
            await patiently(lambda: message.ack_sync(timeout=2))
            if len(self._scans) > 1:  # the next piece is of another one
                await self._give_back(scan)

    async def _publish(self, scan: _Scan, text: bytes, message: Any) -> bool:
        """Until the server has stored it. Whether it has."""
        subject, until, sign = subjects.rows(scan.offer["scan"]), boot_time() + PUBLISH_SECONDS, 0.0
        while await patiently(lambda: self._link.js.publish(subject, text, timeout=2, stream=subjects.ROWS)) is None:
            if boot_time() > until or self._stopped.is_set():
                return False
            if not sign:
                self._say("the queue of results is full, or the server does not answer: waiting")
            await asyncio.sleep(0.25)
            if boot_time() > sign + SIGN_SECONDS:
                sign = boot_time()
                await patiently(message.in_progress)
        return True

    async def _leave(self) -> None:
        for scan in self._scans.values():
            await self._give_back(scan)


def _settle(done: "asyncio.Future[Done]", result: Done) -> None:
    if not done.done():
        done.set_result(result)
