"""A fleet without sockets: workers, the server and the collector die, and every target is still counted once.

The collector's decisions are the real ones (`Board`, `Gather`, `Leases`), and so are the worker's (`Allowance`). The
server is a list of pieces and a list of results, and time is a number. Results come in any order, and some come twice.
"""

import json
import random
from dataclasses import dataclass, field

import pytest

from scanner.fleet.attempts import Piece
from scanner.fleet.board import Board
from scanner.fleet.gather import Gather, Kept
from scanner.fleet.leases import LEASE_SECONDS, Allowance, Lease, Leases, level
from scanner.fleet.messages import encode, with_rows
from scanner.packet.cookie import Key
from scanner.rounds.schedule import Keys, resume_point_of
from scanner.targets.order import Extent

HOSTS, RATE, STEP, SCAN = 20_000, 300.0, 0.25, "0123456789abcdef"
KEYS = Keys(Key(1, 2), 7)
EXTENT = Extent([HOSTS], [1])
ACK_WAIT, ROWS = 10.0, 500


@dataclass
class Folder:
    """A store in memory, which outlives the collector."""

    files: list[Kept] = field(default_factory=list)

    def keep(self, kept: Kept) -> None:
        self.files.append(kept)

    def forget(self, piece: Piece, attempt: str | None = None) -> None:
        self.files = [kept for kept in self.files if kept.piece != piece or attempt not in (None, kept.attempt)]

    def all(self) -> list[Kept]:
        return list(self.files)


@dataclass
class Server:
    """The work queue (until when each piece is somebody's) and the results that nobody has acknowledged."""

    up_at: float = 0.0
    pieces: dict[Piece, float] = field(default_factory=dict)
    results: list[bytes] = field(default_factory=list)


@dataclass
class Worker:
    """One machine. `sent` counts its frames under a piece; the piece is done when all have left."""

    name: str
    fast: float
    allowance: Allowance = field(default_factory=Allowance)
    piece: Piece | None = None
    attempt: str = ""
    sent: float = 0.0
    frozen_until: float = 0.0
    cut_until: float = 0.0


class World:
    def __init__(self, seed: int, deadly: float) -> None:
        self.random, self.deadly, self.now = random.Random(seed), deadly, 0.0
        self.server, self.folder = Server(), Folder()
        self.workers = [Worker(f"{number:016x}", fast) for number, fast in enumerate((1000.0, 200.0, 20.0), 1)]
        self.output: list[int] = []
        self.saved: tuple[str, int] | None = None
        self.saved_at = 0.0
        self.most_sent = 0.0
        self.taken: dict[str, int] = {}
        self.begin()

    def begin(self) -> None:
        """A collector starts, perhaps after another one."""
        resume = None
        if self.saved:
            resume = resume_point_of(json.loads(self.saved[0]))
            del self.output[self.saved[1] :]
        elif self.output:
            self.output.clear()
            self.folder = Folder()
        self.board = Board(EXTENT, KEYS, resume)
        self.leases = Leases(RATE, self.now + LEASE_SECONDS if resume else 0.0)
        self.gather = Gather(SCAN, self.board, self.folder)
        self.gather.take_kept()
        self.starts_at = self.now
        if resume is None:
            self.save()

    def save(self) -> None:
        self.saved = json.dumps(self.board.resume_point().as_json()), len(self.output)
        self.saved_at = self.now

    @property
    def up(self) -> bool:
        return self.now >= self.server.up_at

    def step(self) -> None:
        self.now += STEP
        if self.up and self.now >= self.starts_at:
            self.collect()
        sent = sum(self.work(worker) for worker in self.workers)
        self.most_sent = max(self.most_sent, sent / STEP)
        if self.random.random() < self.deadly:
            self.random.choice([self.kill, self.freeze, self.cut, self.restart, self.lose, self.end_collector])()

    def collect(self) -> None:
        results = self.server.results
        self.random.shuffle(results)
        few = [results.pop() for _ in range(min(len(results), self.random.randrange(8)))]
        for data in few:
            self.gather.take(data)
        results += [data for data in few if self.random.random() < 0.05]  # an acknowledgement was lost
        while self.gather.whole:
            piece, attempt, _ = self.gather.whole.popleft()
            rows = [kept.data for kept in self.folder.all() if (kept.piece, kept.attempt) == (piece, attempt)]
            self.output += [int(line[8:16], 16) for data in rows for line in data.splitlines() if b"ip" in line[:5]]
            self.board.written(piece)
        if self.now >= self.saved_at + 2.0:
            self.save()
        queued = self.server.pieces
        if not queued and not results:
            queued.update(dict.fromkeys(self.board.under_way, 0.0))
        present = len(self.leases.present(self.now))
        if present:
            queued.update(dict.fromkeys(self.board.more(present, RATE / present), 0.0))

    def work(self, worker: Worker) -> float:
        """What it does in a step; returns the frames that it sends."""
        if self.now < worker.frozen_until:
            return 0.0
        reached = self.up and self.now >= worker.cut_until
        if worker.piece and worker.allowance.rate(self.now) is None and worker.sent:
            worker.piece = None  # its lease is over: nothing of it counts
            worker.allowance.give_back()
        if reached:
            if worker.piece is None:
                self.fetch(worker)
            elif self.server.pieces.get(worker.piece) is not None:
                self.server.pieces[worker.piece] = self.now + ACK_WAIT
            self.beat(worker)
        rate = worker.allowance.rate(self.now)
        if worker.piece is None or not rate:
            return 0.0
        frames = min(rate, worker.fast) * STEP
        worker.sent += frames
        if worker.sent >= worker.piece.size and reached:
            self.finish(worker)
        return frames

    def beat(self, worker: Worker) -> None:
        number, holds = worker.allowance.ask(self.now)
        if self.now >= self.starts_at and self.random.random() < 0.95:
            wants = worker.piece is not None
            lease = self.leases.beat(worker.name, self.now, holds, wants, worker.fast)
            if self.random.random() < 0.95:
                worker.allowance.answered(number, lease)

    def fetch(self, worker: Worker) -> None:
        free = [piece for piece, until in self.server.pieces.items() if until <= self.now]
        if free:
            worker.piece, worker.sent = free[0], 0.0
            worker.attempt = f"{self.random.getrandbits(64):016x}"
            self.server.pieces[free[0]] = self.now + ACK_WAIT
            self.taken[worker.name] = self.taken.get(worker.name, 0) + 1

    def finish(self, worker: Worker) -> None:
        piece = worker.piece
        assert piece
        head = {"scan": SCAN, **piece._asdict(), "attempt": worker.attempt, "worker": worker.name}
        positions = list(range(piece.first, sum(piece)))
        batches = [positions[at : at + ROWS] for at in range(0, piece.size, ROWS)]
        for number, batch in enumerate(batches):
            rows = "".join(f'{{"ip": "{position:08x}"}}\n' for position in batch)
            self.server.results.append(with_rows(encode("rows", **head, batch=number), rows.encode()))
        self.server.results.append(encode("end", **head, batches=len(batches), failed=None, stats={}))
        self.server.pieces.pop(piece, None)
        worker.piece = None

    def kill(self) -> None:
        index = self.random.randrange(3)
        self.workers[index] = Worker(f"{self.random.getrandbits(64):016x}", self.workers[index].fast)

    def freeze(self) -> None:
        self.random.choice(self.workers).frozen_until = self.now + self.random.uniform(0.5, 20)

    def cut(self) -> None:
        self.random.choice(self.workers).cut_until = self.now + self.random.uniform(0.5, 20)

    def restart(self) -> None:
        self.server.up_at = self.now + self.random.uniform(0.5, 12)

    def lose(self) -> None:
        self.server = Server(self.now + self.random.uniform(0.5, 12))

    def end_collector(self) -> None:
        self.begin()
        self.starts_at = self.now + self.random.uniform(0.5, 12)


@pytest.mark.parametrize("seed", range(40))
def test_every_target_has_one_row_whatever_dies(seed: int) -> None:
    world = World(seed, deadly=0.03)
    for _ in range(20_000):
        world.step()
        if world.board.done:
            break
    assert sorted(world.output) == list(range(HOSTS))
    assert world.most_sent <= RATE * 1.000001


def test_the_rate_is_used_and_a_slow_worker_takes_fewer_pieces() -> None:
    world = World(1, deadly=0.0)
    for worker in world.workers:
        world.leases.beat(worker.name, 0.0, 0, False, worker.fast)
    while not world.board.done:
        world.step()
    slow = f"{3:016x}"
    assert (world.most_sent > 0.9 * RATE, world.taken[slow] < 0.5 * max(world.taken.values())) == (True, True)
    assert world.now < 2 * HOSTS / RATE


@pytest.mark.parametrize(
    ("limits", "own", "share"), [([90, 90, 90], 90, 30), ([10, 90, 90], 90, 40), ([10, 20], 20, 20), ([10, 90], 90, 80)]
)
def test_what_a_limit_leaves_goes_to_the_others(limits: list[float], own: float, share: float) -> None:
    assert level(limits, 90.0, own) == share


def test_a_worker_that_joins_gets_only_what_the_others_have_left() -> None:
    leases = Leases(100.0)
    first = leases.beat("a", 0.0, 0, True, None)
    second = leases.beat("b", 1.0, 0, True, None)
    less = leases.beat("a", 2.0, first.serial, True, None)
    still = leases.beat("b", 2.5, 0, True, None)  # a may not have got the answer
    leases.beat("a", 3.0, less.serial, True, None)
    at_last = leases.beat("b", 3.5, 0, True, None)
    assert [lease.rate for lease in (first, second, less, still, at_last)] == [100.0, None, 50.0, None, 50.0]


def test_a_lease_is_over_for_the_worker_before_it_is_for_the_collector() -> None:
    leases, allowance = Leases(100.0), Allowance()
    number, holds = allowance.ask(0.0)
    allowance.answered(number, leases.beat("a", 0.3, holds, True, None))
    other = [leases.beat("b", when, 0, True, None).rate for when in (4.9, 5.2, 5.31)]
    assert ([allowance.rate(when) for when in (0.4, 4.8, 4.95)], other) == ([100.0, 100.0, None], [None, None, 100.0])


def test_an_answer_that_comes_too_late_gives_nothing() -> None:
    allowance = Allowance()
    number, _ = allowance.ask(0.0)
    allowance.give_back()
    allowance.answered(number, Lease(3, 100.0))
    assert allowance.rate(0.1) is None


def test_pieces_keep_their_bounds_when_another_collector_goes_on() -> None:
    board = Board(EXTENT, KEYS)
    out = board.more(3, 100.0)
    again = Board(EXTENT, KEYS, resume_point_of(json.loads(json.dumps(board.resume_point().as_json()))))
    assert (again.under_way, again.remaining, len(out) >= 6) == (out, board.remaining, True)


def test_pieces_take_ten_seconds_of_a_share() -> None:
    extent = Extent([100, 1100], [1000, 10])
    board = Board(extent, KEYS)
    sizes: dict[int, set[int]] = {1000: set(), 10: set()}
    while pieces := board.more(2, 300.0):
        for piece in pieces:
            sizes[1000 if piece.first < 100 else 10].add(piece.size)
            board.take_whole(piece)
    assert (max(sizes[1000]), max(sizes[10])) == (3, 300)


def test_a_piece_is_given_up_when_three_workers_failed() -> None:
    board = Board(EXTENT, KEYS)
    gather = Gather(SCAN, board, Folder())
    piece = board.more(1, 100.0)[0]
    gather.workers = 5
    head = {"scan": SCAN, **piece._asdict(), "batches": 0, "stats": {}}
    seen = []
    for number in (1, 1, 1, 2, 3):
        gather.take(encode("end", **head, worker=f"{number:016x}", attempt="b" * 16, failed="no route"))
        seen.append(gather.hopeless)
    assert seen == [None, None, None, None, "no route"]


def test_results_of_other_scans_and_pieces_are_dropped() -> None:
    board = Board(EXTENT, KEYS)
    gather = Gather(SCAN, board, Folder())
    piece = board.more(1, 100.0)[0]
    head = {**piece._asdict(), "attempt": "b" * 16, "worker": "a" * 16}
    gather.take(encode("end", scan="f" * 16, **head, batches=0, failed=None, stats={}))
    gather.take(encode("end", scan=SCAN, **{**head, "size": piece.size + 1}, batches=0, failed=None, stats={}))
    gather.take(b'{"kind": "end"}')
    assert (len(gather.whole), sorted(gather.dropped.values()), piece in board.under_way) == (0, [1, 2], True)
