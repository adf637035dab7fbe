"""What is fuzzed: for each reader its corpus, and what it must do with every mutation of it.

A reader may refuse an input, with the error that its callers turn into one line. Any other exception is a failure, and
so is a broken promise: positions outside a buffer, a row of unknown form, two results for the same bytes.
"""

import gzip
import json
import random
from collections import Counter
from collections.abc import Callable
from functools import cache
from ipaddress import IPv4Address, ip_address
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np

from scanner.capture.reader import open_captures
from scanner.capture.records import SLACK
from scanner.classifier.classification import Classification
from scanner.cli.state_file import StateFile
from scanner.errors import UsageError
from scanner.packet.checksum import wrong_checksums
from scanner.packet.headers import LINK_ETHERNET, Frames
from scanner.packet.link import LINK_TYPES
from scanner.packet.parse import Segments, parse
from scanner.packet.tunnel import Tunnels
from scanner.packet.unread import Aside
from scanner.results.read import read_results
from scanner.rounds.schedule import Schedule
from scanner.targets.lists import words_of
from scanner.targets.order import Extent
from scanner.targets.ports import format_ports, parse_ports
from scanner.targets.spec import Specs, parse_hosts
from scanner.verdict.rows import Verdict
from scanner.verdict.table import State
from scanner.who.reading import Who
from scanner.who.rows import texts
from tests.builders import syn, synack, unreachable
from tests.capture_changes import as_pcap, capture_of, packets_of
from tests.capture_files import S, T, drain
from tests.carriers import CARRIERS, CARRIERS6
from tests.command import sign
from tests.fuzz.fleet import check_message, make_message
from tests.fuzz.mutation import mutated_bytes, mutated_document, mutated_text
from tests.tunnels import WRAPS, in_ipv6, ipip, nested

ROOT = Path(__file__).resolve().parents[2]
CORPUS = Path(__file__).parent / "corpus"
SMALL = 8192  # bytes of a capture that is mutated
BATCH = 24  # frames of a case
STATES = {state.value for state in State} | {"down"}


class Subject(NamedTuple):
    """A reader under test. `make` mutates the corpus, `check` holds the reader to its promises.

    `check` returns whether the reader accepted the input. A refusal may also be a UsageError.
    """

    make: Callable[[random.Random], Any]
    check: Callable[[Any], bool]


# ── frames ──


@cache
def _frames() -> list[tuple[int, bytes]]:
    """(link type, bytes) of frames of the committed captures, the first few of each shape, of all tunnels and links."""
    found: dict[tuple[int, int, bytes], tuple[int, bytes]] = {}
    for path in sorted((ROOT / "pcaps").glob("*.pcap*")):
        for frames in open_captures([str(path)]):
            for at, size, link in zip(frames.start, frames.length, frames.link, strict=True):
                data = frames.buffer[at : at + size].tobytes()
                found.setdefault((int(link), int(size), data[12:24]), (int(link), data))
            break
    return [*found.values(), *_tunneled(), *_carried()]


def _tunneled() -> list[tuple[int, bytes]]:
    """Probes and replies inside tunnels of all kinds, and tunnels in tunnels."""
    packets = [syn(), synack(6), unreachable()]
    wrapped = [wrap(packet, 7) for wrap, _ in WRAPS.values() for packet in packets]
    wrapped += [wrap(packet) for wrap in (ipip, in_ipv6) for packet in packets]
    wrapped += [wrap(nested(syn(), depth)[14:], 9) for wrap, _ in WRAPS.values() for depth in (1, 3, 4)]
    return [(LINK_ETHERNET, frame) for frame in wrapped]


def _carried() -> list[tuple[int, bytes]]:
    """Probes and replies on links of all kinds."""
    kinds = ((4, CARRIERS), (6, CARRIERS6))
    return [
        (link, before + packet)
        for version, carriers in kinds
        for link, before in carriers.values()
        for packet in (syn(version), synack(version), unreachable(version))
    ]


def _make_frames(rng: random.Random) -> list[tuple[int, bytes]]:
    """Frames, some unchanged, some under another link type, some with fields at the edges of their range."""
    made = []
    others = [data for _, data in rng.sample(_frames(), 4)]
    for link, data in rng.choices(_frames(), k=BATCH):
        if rng.random() < 0.8:
            data = mutated_bytes(rng, data, others, 2000)
        made.append((rng.choice(sorted(LINK_TYPES)) if rng.random() < 0.2 else link, data))
    return made


def _laid_out(frames: list[tuple[int, bytes]], gap: bytes) -> Frames:
    """The frames in one buffer, with these bytes between them."""
    start, at, pieces = [], 0, []
    for _, data in frames:
        start.append(at + len(gap))
        pieces += [gap, data]
        at += len(gap) + len(data)
    buffer = np.frombuffer(b"".join([*pieces, gap, bytes(SLACK)]), np.uint8)
    length = np.array([len(data) for _, data in frames], np.int64)
    links = np.array([link for link, _ in frames], np.uint16)
    return Frames(buffer, np.array(start, np.int64), length, np.zeros(len(frames), np.int64), links)


def _parsed(frames: list[tuple[int, bytes]], gap: bytes) -> tuple[dict[int, Any], Counter[str], list[int]]:
    """The segment of each frame, the counts, and how many tunnels were looked into, by kind."""
    counts: Counter[str] = Counter()
    aside = Aside()
    batch = _laid_out(frames, gap)
    tunnels = Tunnels()
    segments: Segments = parse(batch, counts, aside, tunnels)
    counts["cut inside the quoted header"] = sum(len(sender) for sender, *_ in aside.cut)
    found = {**vars(segments), "checksum": wrong_checksums(batch, segments)}
    for place in ("ip_at", "end"):  # places in the buffer
        found[place] = found[place] - batch.start[segments.frame]
    found["tunnel"] = np.array([tunnels.text(tunnel) for tunnel in segments.tunnel.tolist()])
    columns = {name: column.tolist() for name, column in found.items() if name != "frame"}
    rows = {frame: tuple(columns[name][row] for name in columns) for row, frame in enumerate(segments.frame.tolist())}
    assert len(rows) == len(segments), "two segments of one frame"
    return rows, counts, tunnels.packets.tolist()


def check_frames(frames: list[tuple[int, bytes]]) -> bool:
    """What a frame means depends on its own bytes only, and each frame is a segment or counted."""
    rows, counts, tunnels = _parsed(frames, b"")
    assert _parsed(frames, b"\xff" * 64) == (rows, counts, tunnels), "bytes outside a frame are read"
    turned, *again = _parsed(frames[::-1], b"\x45" * 48)
    turned = {len(frames) - 1 - at: row for at, row in turned.items()}
    assert (turned, again) == (rows, [counts, tunnels]), "frames of a batch change each other"
    assert len(rows) + sum(counts.values()) >= len(frames), "a frame is neither a segment nor counted"
    return True


# ── captures ──


@cache
def _captures() -> list[bytes]:
    paths = [*sorted((ROOT / "pcaps").glob("*.pcap*")), *sorted((ROOT / "tests/captures/corpus").iterdir())]
    whole = [gzip.decompress(path.read_bytes()) if path.suffix == ".gz" and path.parent.name == "pcaps"
             else path.read_bytes() for path in paths]  # fmt: skip
    return [data[:SMALL] for data in [*whole, *_built()]]


def _built() -> list[bytes]:
    """A scan of two ports on a link of each kind, and in tunnels of each kind, with tunnels in tunnels behind them."""
    by_link: dict[int, list[bytes]] = {}
    for link, frame in _carried():
        by_link.setdefault(link, []).append(frame)
    tunneled = [frame for _, frame in _tunneled()]
    files = [*by_link.items(), *((LINK_ETHERNET, tunneled[at : at + 12]) for at in range(0, len(tunneled), 12))]
    return [as_pcap([(T * S + at * 1000, link, frame) for at, frame in enumerate(frames)]) for link, frames in files]


def _make_capture(rng: random.Random) -> bytes:
    data = mutated_bytes(rng, rng.choice(_captures()), _captures(), SMALL)
    return gzip.compress(data) if rng.random() < 0.1 else data


def check_capture(data: bytes) -> bool:
    """A capture is read to its end, or its damage is named."""
    return drain(data)[0] > 0


def check_classified(data: bytes) -> bool:
    """A capture becomes rows, each target once and each row as documented, and a report.

    In small batches the rows are the same.
    """
    with TemporaryDirectory() as folder:
        path = Path(folder) / "capture"
        path.write_bytes(data)
        reading = Classification([str(path)], orphans=True)
        rows = [row for batch in reading.batches() for row in batch]
        for row in rows:
            _check_row(row)
        assert len({(row.scanner_ip, row.tunnel, row.ip, row.port) for row in rows}) == len(rows)
        pieces = Classification([], orphans=True)
        pieces.capture = capture_of(packets_of(path), lambda: 3, reading.capture.both_ways, reading.capture.end_time)
        assert [row for batch in pieces.batches() for row in batch] == rows, "the size of batches changes rows"
        assert all(line.isprintable() for line in reading.report())
        return bool(rows)


def check_who(data: bytes) -> bool:
    """A capture becomes rows of probers, each once, which every format can write; also with the usual limits."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "capture"
        path.write_bytes(data)
        reading = Who([str(path)], 1, everything=True)
        probers = list(reading.rows())
        assert len({(prober.prober, prober.tunnel) for prober in probers}) == len(probers)
        assert all(ip_address(prober.prober) and prober.not_told >= 0 for prober in probers)
        assert all(0 < claim.syns <= prober.probes for prober in probers for claim in prober.claims)
        written = ["".join(texts(probers, form)) for form in ("table", "csv", "jsonl")]
        assert "".join(written).replace("\n", "").isprintable()
        assert len([json.loads(line) for line in written[2].splitlines()]) == len(probers)
        usual = list(Who([str(path)]).rows())
        assert {(prober.prober, prober.tunnel) for prober in usual} <= {(p.prober, p.tunnel) for p in probers}
        return bool(probers)


def _check_row(row: Verdict) -> None:
    assert row.state in STATES
    assert ip_address(row.ip)
    assert row.port is None or 0 <= row.port <= 65535
    assert row.ttl is None or 0 <= row.ttl <= 255


# ── what users type ──

TARGETS = (
    "192.0.2.1", "192.0.2.0/24", "192.0.2.1-9", "192.0.2.1-192.0.2.200", "10.0-3.*.1,2", "2001:db8::/120",
    "web.example", "2001:db8::1-2001:db8::ff", "web.example/28", "fe80::1%eth0", "0.0.0.0/0",
    "::ffff:192.0.2.1", "[2001:db8::1]",
)  # fmt: skip
TARGET_WORDS = (".", "-", "/", ",", "*", ":", "::", "%", "[", "]", "0", "255", "256", "/32", "/33", "/128", "01",
                "ffff", "-1", " ", "0x1", "1e3", "+1", "_")  # fmt: skip
PORTS = ("22", "1-1024", "22,80,443", "-100", "65000-", "-", "http,https", "T:80", "http*", "80/tcp", "0-65535")
PORT_WORDS = ("-", ",", "T:", "U:", "*", "?", "http", "0", "65535", "65536", "/tcp", "[", "]", " ", "--", "+1", "1_0")


LIST_BLANKS = ("", "", "", " ", "\t ", "\xa0", "\x1f")
LIST_ENDS = ("\n", "\n", "\n", "\r\n", "\r", " ", " # 192.0.2.9\n", "#\n", "# é\x85", "\x0b", "\u2028", "\n\n")


def check_targets(spec: str) -> bool:
    """Targets are a set whose members are all different, and nothing is left if they are excluded."""
    hosts = parse_hosts([spec], [], lambda name: ["192.0.2.77"])
    assert hosts.size > 0
    number = np.unique(np.linspace(0, hosts.size - 1, 50).astype(np.int64))
    address = hosts.pick(number)
    assert len(np.unique(address)) == len(number)
    assert hosts.index_of(address).tolist() == number.tolist()
    assert _hosts_of([spec], [spec])[0] == 0
    return True


def _plain_word(rng: random.Random) -> str:
    """An IPv4 address, block or range; nearly always a right one."""
    first, last = sorted(rng.choices(range(1 << 32), k=2))
    tail = rng.choice(("", "", "", f"/{rng.randint(0, 33)}", f"-{IPv4Address(last)}", f"-{first % 256 | 15}"))
    address = str(IPv4Address(first))
    if rng.random() < 0.02:
        address = address.replace(
            rng.choice(address.split(".")), rng.choice(("256", "300", "01", "0256", "1.1", "")), 1
        )
    return address + tail


def _make_list(rng: random.Random) -> bytes:
    """Lines of a list, some with strange words, blanks, comments and ends."""
    text = ""
    for _ in range(rng.randint(1, 12)):
        way = rng.random()
        word = _plain_word(rng) if way < 0.8 else rng.choice(TARGETS[:8])
        if way > 0.96:
            word = mutated_text(rng, word, TARGET_WORDS)
        text += rng.choice(LIST_BLANKS) + word + rng.choice(LIST_ENDS)
    data = text.encode("utf-8", "surrogatepass")
    return mutated_bytes(rng, data, [b"192.0.2.1\n", b"# 1.2.3.4\n"]) if rng.random() < 0.2 else data


def _hosts_of(targets: Specs, excludes: Specs) -> tuple[int, str]:
    """The number of hosts and their digest, or 0 and the message."""
    try:
        hosts = parse_hosts(targets, excludes, lambda name: ["192.0.2.77"])
    except UsageError as error:
        return 0, str(error)
    return hosts.size, hosts.digest()


def check_list(data: bytes) -> bool:
    """Lines that are read in bulk mean what their words mean one by one, as targets and as excludes."""
    words = words_of(data)
    assert _hosts_of([data], []) == _hosts_of(words, [])
    assert _hosts_of(["0.0.0.0/0"], [data]) == _hosts_of(["0.0.0.0/0"], words)
    return _hosts_of([data], [])[0] > 0


def _numbers_of(spec: str) -> set[int]:
    """The ports of a specification without names, read in the simplest way; port 0 only if it is named."""
    found: set[int] = set()
    for part in spec.split(","):
        low, dash, high = part.strip().upper().removeprefix("T:").partition("-")
        first = int(low or 1)
        found.update(range(first, (int(high or 65535) if dash else first) + 1))
    return found


def check_ports(spec: str) -> bool:
    """Ports are sorted, different and those that are written, also when they are written and read again."""
    ports = parse_ports(spec)
    if not set(spec) - set("0123456789-, T:t"):
        assert set(ports.tolist()) == _numbers_of(spec)
    assert len(ports) > 0
    assert (np.diff(ports.astype(np.int64)) > 0).all()
    assert parse_ports(format_ports(ports)).tolist() == ports.tolist()
    return True


# ── results and states ──


@cache
def _results() -> list[bytes]:
    goldens = [path.read_bytes().splitlines()[:20] for path in sorted((ROOT / "pcaps").glob("*.jsonl"))]
    return [*map(b"\n".join, goldens), *(path.read_bytes() for path in sorted((CORPUS / "results").iterdir()))]


RESULT_WORDS = (
    '"port"', '"ip"', '"state"', "open", "closed", "null", "1e9", "-1", "[]", "{}", "<port", "<host>", "</host>",
    "portid=", '"', "'", ",", "\n", "&lt;", "&#0;", "<!ENTITY a 'b'>", "0-65535", "extraports",
    "count=", "filtered", "65536",
)  # fmt: skip


def _make_results(rng: random.Random) -> bytes:
    data = rng.choice(_results())
    way = rng.random()
    if data.startswith(b"{") and way < 0.6:
        lines = data.splitlines()
        at = rng.randrange(len(lines))
        lines[at] = json.dumps(mutated_document(rng, json.loads(lines[at]))).encode()
        return b"\n".join(lines)
    if way < 0.8:
        text = mutated_text(rng, data.decode("utf-8", "replace"), RESULT_WORDS)
        return text.encode("utf-8", "surrogatepass")
    return mutated_bytes(rng, data, _results(), 2 * SMALL)


def check_results(data: bytes) -> bool:
    """Results are rows whose columns have their types."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "results"
        path.write_bytes(data)
        for row in read_results([str(path)], lambda line: None):
            assert isinstance(row.ip, str)
            assert row.port is None or 0 <= row.port <= 65535
            assert isinstance(row.state, str)
            assert isinstance(row.reason, str)
            assert all(isinstance(word, str) for word in row.evidence)
        return True


@cache
def _states() -> list[Any]:
    return [json.loads(path.read_text()) for path in sorted((CORPUS / "states").iterdir())]


def _make_state(rng: random.Random) -> bytes:
    """Most states have a right checksum, so that what is behind it is reached."""
    document = rng.choice(_states())
    if rng.random() < 0.8:
        return sign(mutated_document(rng, document)).encode("utf-8", "surrogatepass")
    return mutated_bytes(rng, json.dumps(document).encode(), [b"{}", b"[]"], SMALL)


def check_state(data: bytes) -> bool:
    """A scan can go on from a state."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "state"
        path.write_bytes(data)
        path.chmod(0o600)
        point = StateFile(str(path), _states()[0]["inputs"]).resume_point
        assert point is not None
        at, left = point.restart(point.lanes)
        sizes = [lane.hosts for lane in point.lanes]
        schedule = Schedule([Extent(size, 2) for size in sizes], at, left)
        for _ in range(100):
            part = schedule.next(1000.0)
            if part is None:
                break
            assert 0 <= part.lane < len(sizes)
            assert 0 <= part.first < part.first + part.size <= sizes[part.lane]
        return True


SUBJECTS: dict[str, Subject] = {
    "frames": Subject(_make_frames, check_frames),
    "captures": Subject(_make_capture, check_capture),
    "classify": Subject(_make_capture, check_classified),
    "who": Subject(_make_capture, check_who),
    "targets": Subject(lambda rng: mutated_text(rng, rng.choice(TARGETS), TARGET_WORDS), check_targets),
    "lists": Subject(_make_list, check_list),
    "ports": Subject(lambda rng: mutated_text(rng, rng.choice(PORTS), PORT_WORDS), check_ports),
    "results": Subject(_make_results, check_results),
    "states": Subject(_make_state, check_state),
    "fleet": Subject(make_message, check_message),
}


def run_case(name: str, seed: int) -> bool:
    """One case of a subject; whether the reader accepted it. Raises whatever the reader raises but a refusal."""
    subject = SUBJECTS[name]
    try:
        return subject.check(subject.make(random.Random(f"{name} {seed}")))
    except UsageError:
        return False
