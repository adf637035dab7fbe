"""XML as nmap writes it (masscan and halfopen do the same), read as a stream of verdicts.

nmap folds what many ports of a host share into `extraports`, a count. Newer releases name the ports beside it. In older
files they follow from `scaninfo` (the scanned ports minus the listed ones), as long as a host has only one such
group. Ports that do not follow are left out, and a note says how many: a guess would look like a change.

Files come from strangers, so Expat itself parses them: memory holds one host, an entity declaration (nmap never
writes one) ends the reading before entities could multiply, and nothing outside the file is ever opened. A file without
its end, as an interrupted scan leaves it, is refused: a missing row would look like a port that vanished.

Source: nmap.dtd; reasons are nmap's own words, without the plurals of releases before 7.40 or so.
"""

from collections.abc import Callable, Iterator
from typing import IO
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

from ..verdict.rows import Verdict
from ..verdict.table import Reason, State

_PIECE = 1 << 16
_SCANNER = "scanner "
_WORDS = {reason.word for reason in Reason}
_UNKNOWN = "unknown-response"  # nmap's word for a reason that it cannot name


class NotNmap(Exception):
    """What is wrong with the file, as words that follow its name."""


_Named = list[tuple[str, list[int], str]]  # of ports in one state: (protocol, ports, reason)


class _Reader:
    """Expat's events → `done`, the rows of the hosts that have ended."""

    def __init__(self) -> None:
        self.done: list[Verdict] = []
        self.left_out = 0  # ports that nmap counted and did not name
        self._scanned: dict[str, str] = {}  # protocol → ports
        self._builder = TreeBuilder()
        self._root: Element | None = None

    def start(self, name: str, attributes: dict[str, str]) -> None:
        element = self._builder.start(name, attributes)
        if self._root is None:
            self._root = element
            if name != "nmaprun":
                raise NotNmap(f"its XML is <{name}>, not nmap's <nmaprun>")
        if name == "scaninfo":
            self._scanned[attributes.get("protocol", "tcp")] = attributes.get("services", "")

    def end(self, name: str) -> None:
        element = self._builder.end(name)
        if name == "host" and self._root is not None:
            self.done += self._host(element)
            self._root.clear()  # a tree of one host at a time

    def _host(self, host: Element) -> Iterator[Verdict]:
        """The rows of a host: itself if it is down, its ports as listed, then the folded ones."""
        ips = [address.attrib["addr"] for address in host.iter("address") if address.get("addrtype") != "mac"]
        if not ips:
            raise NotNmap("a host in it has no address")
        ip = ips[-1]
        comment = host.get("comment", "")
        scanner = comment.removeprefix(_SCANNER) if comment.startswith(_SCANNER) else None
        status = host.find("status")
        if status is not None and status.get("state") == State.DOWN.value:
            yield Verdict(
                ip, None, State.DOWN.value, status.get("reason") or Reason.NO_RESPONSE.word, scanner_ip=scanner
            )
        listed = [row for port in host.iter("port") if (row := _port(port, ip, scanner))]
        yield from listed
        folded = list(host.iter("extraports"))
        named = list(map(_named_ports, folded))
        if named.count([]) == 1:
            # Scanned ports that are neither listed nor named belong to the one group without names.
            known = {row.port for row in listed} | {port for names in named for _, ports, _ in names for port in ports}
            at = named.index([])
            named[at] = self._rest(folded[at], known)
        for group, names in zip(folded, named, strict=True):
            if not names:
                self.left_out += int(group.attrib["count"])
            for protocol, ports, reason in names:
                for port in ports:
                    yield Verdict(ip, port, group.attrib["state"], reason or _UNKNOWN, protocol, scanner_ip=scanner)

    def _rest(self, group: Element, known: set[int | None]) -> _Named:
        """The ports of a group that names none; [] if scanned and known ports do not tell them."""
        if len(self._scanned) != 1:
            return []
        ((protocol, scanned),) = self._scanned.items()
        rest = [port for port in _numbers(scanned) if port not in known]
        reasons = group.find("extrareasons")
        reason = "" if reasons is None else _singular(reasons.attrib["reason"])
        return [(protocol, rest, reason)] if len(rest) == int(group.attrib["count"]) else []


def _port(port: Element, ip: str, scanner: str | None) -> Verdict | None:
    state, service = port.find("state"), port.find("service")
    if state is None or not state.attrib["state"]:
        return None
    scripts = (script for script in port.iter("script") if script.get("id") == "halfopen-evidence")
    evidence = next((script.get("output", "").replace(",", " ").split() for script in scripts), [])
    return Verdict(
        ip,
        int(port.attrib["portid"]),
        state.attrib["state"],
        _singular(state.get("reason", "")) or _UNKNOWN,
        port.get("protocol", "tcp"),
        ttl=int(state.get("reason_ttl") or 0) or None,
        service=None if service is None else service.get("name"),
        evidence=tuple(evidence),
        icmp_from=state.get("reason_ip"),
        scanner_ip=scanner,
    )


def _named_ports(group: Element) -> _Named:
    """The ports of an `extraports` element by reason, where nmap names them."""
    given = [reasons.attrib for reasons in group.iter("extrareasons") if "ports" in reasons.attrib]
    return [(names.get("proto", "tcp"), list(_numbers(names["ports"])), _singular(names["reason"])) for names in given]


def read_xml(stream: IO[bytes], note: Callable[[str], None]) -> Iterator[Verdict]:
    """The verdicts of a file, host by host. At the end `note` gets a line about ports that were left out.

    Raises NotNmap for anything that is not a whole file of nmap's XML; the address of a row is as written.
    """
    reader = _Reader()
    parser = expat.ParserCreate()
    parser.StartElementHandler = reader.start
    parser.EndElementHandler = reader.end
    parser.EntityDeclHandler = _refuse_entity
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
        raise NotNmap(f"an element near line {parser.CurrentLineNumber} lacks what nmap writes ({error})") from error
    if reader.left_out:
        note(f"{reader.left_out:,} ports that nmap only counted are left out; nmap -d names each port")


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
