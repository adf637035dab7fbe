"""XML as nmap writes it (masscan and halfopen do the same), read as a stream of verdicts.

nmap folds what many ports of a host share into `extraports`, a count; its newer releases name the ports beside it, of
older ones they follow from `scaninfo` (what was scanned, minus what is listed) as long as a host has only one such
group. Where they do not follow they are left out and told: a guess would show as change.

Files come from strangers, so the parser is Expat itself, event by event: memory is one host, entities (which nmap never
declares) end the reading before they could multiply, and nothing outside the file is ever opened. A file without its
end, as an interrupted scan leaves it, is refused for the same reason as a torn line.

Source: nmap.dtd; reasons are nmap's own words, with the plurals of releases before 7.40 or so taken back.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import IO
from xml.parsers import expat

from ..verdict.table import Reason, State, Verdict

_PIECE = 1 << 16
_SCANNER = "scanner "
_WORDS = {reason.word for reason in Reason}
_DOWN = State.DOWN.value

Attributes = dict[str, str]


class NotNmap(ValueError):
    """What is wrong with the file, as words that follow its name."""


@dataclass
class _Group:
    """`extraports`: ports of one state; `listed` by reason where nmap names them."""

    state: str
    count: int
    reason: str = ""
    listed: list[tuple[str, str, str]] = field(default_factory=list)  # protocol, ports, reason


@dataclass
class _Host:
    """What is known of the host being read. `scanner`: who probed it, where halfopen noted that."""

    scanner: str | None = None
    ip: str = ""
    state: str = ""
    reason: str = ""
    rows: list[Verdict] = field(default_factory=list)
    groups: list[_Group] = field(default_factory=list)


@dataclass
class _Port:
    number: int
    protocol: str
    state: str = ""
    reason: str = ""
    ttl: int | None = None
    sender: str | None = None
    service: str | None = None
    evidence: tuple[str, ...] = ()


class _Reader:
    """Expat's events → `done`, the rows of hosts that have ended."""

    def __init__(self) -> None:
        self.done: list[Verdict] = []
        self.uncounted = 0  # ports that nmap counted and did not name
        self._scanned: dict[str, str] = {}  # protocol → ports
        self._host = _Host()
        self._port: _Port | None = None
        self._root = ""
        self._acts: dict[str, Callable[[Attributes], None]] = {
            "scaninfo": self._scaninfo,
            "host": self._begin_host,
            "status": self._status,
            "address": self._address,
            "extraports": self._extraports,
            "extrareasons": self._extrareasons,
            "port": self._begin_port,
            "state": self._state,
            "service": self._service,
            "script": self._script,
        }

    def start(self, name: str, attributes: Attributes) -> None:
        if not self._root:
            self._root = name
            if name != "nmaprun":
                raise NotNmap(f"its XML is <{name}>, not nmap's <nmaprun>")
        act = self._acts.get(name)
        if act:
            act(attributes)

    def end(self, name: str) -> None:
        if name == "port" and self._port:
            self._end_port(self._port)
        elif name == "host":
            self._end_host()

    def _scaninfo(self, given: Attributes) -> None:
        self._scanned[given.get("protocol", "tcp")] = given.get("services", "")

    def _begin_host(self, given: Attributes) -> None:
        comment = given.get("comment", "")
        scanner = comment.removeprefix(_SCANNER) if comment.startswith(_SCANNER) else None
        self._host, self._port = _Host(scanner=scanner), None

    def _status(self, given: Attributes) -> None:
        self._host.state, self._host.reason = given.get("state", ""), given.get("reason", "")

    def _address(self, given: Attributes) -> None:
        if given.get("addrtype", "ipv4") != "mac":
            self._host.ip = given["addr"]

    def _extraports(self, given: Attributes) -> None:
        self._host.groups.append(_Group(given["state"], int(given["count"])))

    def _extrareasons(self, given: Attributes) -> None:
        group = self._host.groups[-1]
        group.reason = group.reason or _singular(given["reason"])
        if "ports" in given:
            group.listed.append((given.get("proto", "tcp"), given["ports"], _singular(given["reason"])))

    def _begin_port(self, given: Attributes) -> None:
        self._port = _Port(int(given["portid"]), given.get("protocol", "tcp"))

    def _state(self, given: Attributes) -> None:
        if self._port:
            self._port.state, self._port.reason = given["state"], _singular(given.get("reason", "unknown-response"))
            self._port.ttl = int(given.get("reason_ttl") or 0) or None
            self._port.sender = given.get("reason_ip")

    def _service(self, given: Attributes) -> None:
        if self._port:
            self._port.service = given.get("name")

    def _script(self, given: Attributes) -> None:
        if self._port and given.get("id") == "halfopen-evidence":
            self._port.evidence = tuple(given.get("output", "").replace(",", " ").split())

    def _end_port(self, port: _Port) -> None:
        if port.state:
            reason = port.reason or "unknown-response"
            known = (port.protocol, port.ttl, port.service, port.evidence)
            self._host.rows.append(
                Verdict(self._host.ip, port.number, port.state, reason, *known, icmp_from=port.sender)
            )
        self._port = None

    def _end_host(self) -> None:
        host = self._host
        if not host.ip:
            raise NotNmap("a host in it has no address")
        rows = [Verdict(host.ip, None, _DOWN, host.reason or "no-response")] if host.state == _DOWN else []
        rows += host.rows
        unlisted = [group for group in host.groups if not group.listed]
        for group in host.groups:
            rows += self._folded(group, alone=len(unlisted) == 1)
        self.done += [row._replace(ip=host.ip, scanner_ip=host.scanner) for row in rows]
        self._host = _Host()

    def _folded(self, group: _Group, alone: bool) -> Iterator[Verdict]:
        """The ports of a group, as rows; counted where they cannot be known."""
        spans = group.listed
        if not spans and alone and len(self._scanned) == 1:
            ((protocol, services),) = self._scanned.items()
            named = {row.port for row in self._host.rows}
            named |= {port for other in self._host.groups for _, ports, _ in other.listed for port in _numbers(ports)}
            rest = [port for port in _numbers(services) if port not in named]
            if len(rest) == group.count:
                spans = [(protocol, ",".join(map(str, rest)), group.reason)]
        if not spans:
            self.uncounted += group.count
        for protocol, ports, reason in spans:
            for port in _numbers(ports):
                yield Verdict(self._host.ip, port, group.state, reason or "unknown-response", protocol)


def read_xml(stream: IO[bytes], note: Callable[[str], None]) -> Iterator[Verdict]:
    """The verdicts of a file, host by host. `note` is told at the end of ports that were left out.

    Raises NotNmap for anything that is not a whole file of nmap's XML; the address of a row is as written.
    """
    reader = _Reader()
    parser = expat.ParserCreate()
    parser.StartElementHandler = reader.start
    parser.EndElementHandler = reader.end
    parser.EntityDeclHandler = _refuse_entity
    parser.buffer_text = True
    try:
        while piece := stream.read(_PIECE):
            parser.Parse(piece)
            yield from reader.done
            reader.done.clear()
        parser.Parse(b"", True)
    except expat.ExpatError as error:
        cause = expat.errors.messages[error.code]
        unfinished = cause in (expat.errors.XML_ERROR_NO_ELEMENTS, expat.errors.XML_ERROR_UNCLOSED_TOKEN)
        text = "the XML is not finished, the scan was interrupted" if unfinished else f"broken XML ({cause})"
        raise NotNmap(f"{text}, line {error.lineno}") from error
    except (KeyError, IndexError, ValueError) as error:
        if isinstance(error, NotNmap):
            raise
        raise NotNmap(f"an element near line {parser.CurrentLineNumber} lacks what nmap writes ({error})") from error
    if reader.uncounted:
        note(f"{reader.uncounted:,} ports that nmap only counted are left out; nmap -d names each port")


def _refuse_entity(*_: object) -> None:
    raise NotNmap("it declares XML entities, which nmap never does")


def _singular(reason: str) -> str:
    """`resets` → `reset`: what old releases wrote where several ports shared a reason."""
    if reason in _WORDS:
        return reason
    return next((reason[:-n] for n in (1, 2) if reason[:-n] in _WORDS and reason[-n:] in ("s", "es")), reason)


def _numbers(ports: str) -> Iterator[int]:
    """`22,80-82` → 22 80 81 82. Raises ValueError."""
    for part in filter(None, ports.split(",")):
        first, _, last = part.partition("-")
        low, high = int(first), int(last or first)
        if not 0 <= low <= high <= 65535:
            raise ValueError(f"ports {part!r}")
        yield from range(low, high + 1)
