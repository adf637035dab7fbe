"""XML as nmap writes it (masscan and halfopen do the same), read as a stream of verdicts.

nmap folds what many ports of a host share into `extraports`, a count. Newer releases name the ports beside it. In older
files they follow from `scaninfo` (the scanned ports minus the listed ones), as long as a host has only one such
group. Ports that do not follow are left out, and a note says how many: a guess would look like a change.

Files come from strangers. Expat parses them, and nothing outside the file is ever opened. Memory holds those elements
of one host that matter here. Declarations inside the file (nmap never writes one) end the reading before entities or
default values could multiply. So do elements that are deeper, longer or of more kinds than nmap writes, and a host with
more ports than there are. What defusedxml forbids is forbidden here too, and it does not bound the rest. A file without
its end, as an interrupted scan leaves it, is refused: a missing row would look like a port that vanished.

Source: nmap.dtd; reasons are nmap's own words, without the plurals of releases before 7.40 or so.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from reprlib import repr as brief
from typing import IO, Any
from urllib.parse import unquote
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

from ..output.xml import SEEN
from ..verdict.rows import Verdict
from ..verdict.table import Reason, State

_PIECE = 1 << 16
_WORDS = {reason.word for reason in Reason}
_UNKNOWN = "unknown-response"  # nmap's word for a reason that it cannot name
_HALFOPEN = "halfopen-evidence"  # the script whose output is our evidence
_KEPT = {
    "nmaprun",
    "host",
    "status",
    "address",
    "hostname",
    "ports",
    "port",
    "state",
    "service",
    "extraports",
    "extrareasons",
}
_PORTS = 1 << 16
_MOST_ROWS = 4 * _PORTS  # of a host: nmap scans TCP, UDP, SCTP and IP protocols
_DEEPEST, _MOST_NAMES = 100, 2000  # elements within each other; names of elements and attributes
_LONGEST = 4 << 20  # bytes of one tag: a command line may have 2 MB


class NotNmap(Exception):
    """What is wrong with the file, as words that follow its name."""


_NO_MEMORY = expat.errors.codes[expat.errors.XML_ERROR_NO_MEMORY]
Run = Callable[[Mapping[str, str], Mapping[str, str]], None]  # is told what the file says of its scan
_Named = list[tuple[str, list[int], str]]  # of ports in one state: (protocol, ports, reason)


class _Reader:
    """Expat's events → `done`, the rows of each host that has ended.

    They are made while they are read: a few kilobytes may hold the ports of a hundred hosts.
    """

    def __init__(self) -> None:
        self.done: list[Iterator[Verdict]] = []
        self.left_out = 0  # ports that nmap counted and did not name
        self.said: dict[str, dict[str, str]] = {"nmaprun": {}, "finished": {}}  # of the scan as a whole
        self._scanned: dict[str, str] = {}  # protocol → ports
        self._builder = TreeBuilder()
        self._root: Element | None = None
        self._names: set[str] = set()
        self._is_kept: list[bool] = []  # of each element that has not ended

    def start(self, name: str, attributes: dict[str, str]) -> None:
        self._names.update((name, *attributes))
        if len(self._is_kept) == _DEEPEST or len(self._names) > _MOST_NAMES:
            raise NotNmap("its XML is deeper, or has more kinds of elements, than nmap writes")
        kept = name in _KEPT or not self._is_kept or (name == "script" and attributes.get("id") == _HALFOPEN)
        self._is_kept.append(kept)
        element = self._builder.start(name, attributes) if kept else None
        if self._root is None:
            self._root = element
            if name != "nmaprun":
                raise NotNmap(f"its XML is <{name[:40]}>, not nmap's <nmaprun>")
        if name in self.said:
            self.said[name] = attributes
        if name == "scaninfo":
            self._scanned[attributes.get("protocol", "tcp")] = attributes.get("services", "")

    def end(self, name: str) -> None:
        if not self._is_kept.pop():
            return
        element = self._builder.end(name)
        if name == "host" and self._root is not None:
            self.done.append(self._host(element))
            self._root.clear()  # a tree of one host at a time

    def _host(self, host: Element) -> Iterator[Verdict]:
        """The rows of a host: itself if it is down, its ports as listed, then the folded ones."""
        ips = [address.attrib["addr"] for address in host.iter("address") if address.get("addrtype") != "mac"]
        if not ips:
            raise NotNmap("a host in it has no address")
        ip = ips[-1]
        whose = _whose(host.get("comment", "")) | {"hostname": _name(host)} | _card(host)
        status = host.find("status")
        if status is not None and status.get("state") == State.DOWN.value:
            yield Verdict(ip, None, State.DOWN.value, status.get("reason") or Reason.NO_RESPONSE.word, **whose)
        listed = [row for port in host.iter("port") if (row := _port(port, ip, whose))]
        yield from listed
        folded = list(host.iter("extraports"))
        named = _named_ports(folded, _MOST_ROWS - len(listed))
        if named.count([]) == 1:
            # Scanned ports that are neither listed nor named belong to the one group without names.
            known = {row.port for row in listed} | {port for names in named for _, ports, _ in names for port in ports}
            at = named.index([])
            named[at] = self._rest(folded[at], known)
        for group, names in zip(folded, named, strict=True):
            if not names:
                self.left_out += _port_number(group.attrib["count"], _PORTS)
            for protocol, ports, reason in names:
                for port in ports:
                    yield Verdict(ip, port, group.attrib["state"], reason or _UNKNOWN, protocol, **whose)

    def _rest(self, group: Element, known: set[int | None]) -> _Named:
        """The ports of a group that names none; [] if scanned and known ports do not tell them."""
        if len(self._scanned) != 1:
            return []
        ((protocol, scanned),) = self._scanned.items()
        rest = [port for port in _numbers(scanned) if port not in known]
        reasons = group.find("extrareasons")
        reason = "" if reasons is None else _singular(reasons.attrib["reason"])
        return [(protocol, rest, reason)] if len(rest) == int(group.attrib["count"]) else []


def _whose(comment: str) -> dict[str, Any]:
    """What halfopen writes of a host: who scanned it, in which tunnel, which scan it was, from where, which capture."""
    parts = (part.partition(" ") for part in comment.split(", "))
    seen = {name: value for name, _, value in parts if name in SEEN and value}
    scan = re.fullmatch("[1-9][0-9]{0,8}", seen.get("scan", ""))
    texts = {name: unquote(seen[name]) for name in ("vantage", "capture") if name in seen}
    whose = {"scanner_ip": seen.get("scanner"), "tunnel": seen.get("tunnel"), "scan": int(scan[0]) if scan else None}
    return whose | texts


def _name(host: Element) -> str | None:
    """The name that the user gave, or else the first one that nmap found."""
    names = {name.get("type"): name.get("name") for name in reversed(list(host.iter("hostname")))}
    return names.get("user") or next(iter(reversed(names.values())), None) or None


def _card(host: Element) -> dict[str, Any]:
    """The MAC address of a host on the link, and who made the card."""
    for address in host.iter("address"):
        if address.get("addrtype") == "mac":
            return {"mac": address.attrib["addr"].lower(), "vendor": address.get("vendor")}
    return {}


def _port(port: Element, ip: str, whose: dict[str, Any]) -> Verdict | None:
    state, service = port.find("state"), port.find("service")
    if state is None or not state.attrib["state"]:
        return None
    evidence = next((script.get("output", "").replace(",", " ").split() for script in port.iter("script")), [])
    return Verdict(
        ip,
        _port_number(port.attrib["portid"]),
        state.attrib["state"],
        _singular(state.get("reason", "")) or _UNKNOWN,
        port.get("protocol", "tcp"),
        ttl=int(state.get("reason_ttl") or 0) or None,
        service=None if service is None else service.get("name"),
        evidence=tuple(evidence),
        icmp_from=state.get("reason_ip"),
        **whose,
    )


def _named_ports(groups: list[Element], most: int) -> list[_Named]:
    """The ports of each `extraports` element by reason, where nmap names them; `most` in all of them."""
    named: list[_Named] = []
    for group in groups:
        given = [reasons.attrib for reasons in group.iter("extrareasons") if "ports" in reasons.attrib]
        named.append([])
        for names in given:
            ports = list(_numbers(names["ports"]))
            most -= len(ports)
            if most < 0:
                raise NotNmap("a host in it has more ports than there are")
            named[-1].append((names.get("proto", "tcp"), ports, _singular(names["reason"])))
    return named


def read_xml(stream: IO[bytes], note: Callable[[str], None], run: Run = lambda head, end: None) -> Iterator[Verdict]:
    """The verdicts of a file, host by host. At the end `note` gets a line about ports that were left out.

    Then `run` gets the attributes of `<nmaprun>` and of `<finished>`.

    Raises NotNmap for anything that is not a whole file of nmap's XML; the address of a row is as written.
    """
    reader = _Reader()
    parser = expat.ParserCreate()
    parser.StartElementHandler = reader.start
    parser.EndElementHandler = reader.end
    parser.StartDoctypeDeclHandler = _refuse_declarations
    fed = 0
    try:
        while piece := stream.read(_PIECE):
            parser.Parse(piece)
            fed += len(piece)
            if fed - parser.CurrentByteIndex > _LONGEST:  # Expat keeps what has not ended
                raise NotNmap("a tag in it is longer than nmap writes")
            for rows in reader.done:
                yield from rows
            reader.done.clear()
        parser.Parse(b"", True)
    except expat.ExpatError as error:
        if error.code == _NO_MEMORY:
            raise MemoryError from error
        cause = expat.errors.messages[error.code]
        unfinished = cause in (expat.errors.XML_ERROR_NO_ELEMENTS, expat.errors.XML_ERROR_UNCLOSED_TOKEN)
        text = "the XML is not finished, the scan was interrupted" if unfinished else f"broken XML ({cause})"
        raise NotNmap(f"{text}, line {error.lineno}") from error
    except (KeyError, IndexError, ValueError) as error:
        raise NotNmap(f"an element near line {parser.CurrentLineNumber} lacks what nmap writes ({error})") from error
    except LookupError as error:  # the encoding that the first line names
        raise NotNmap(str(error)) from error
    if reader.left_out:
        note(f"{reader.left_out:,} ports that nmap only counted are left out; nmap -d names each port")
    run(*reader.said.values())


def _refuse_declarations(name: str, system_id: str | None, public_id: str | None, has_internal_subset: bool) -> None:
    if has_internal_subset:
        raise NotNmap("it declares XML entities or attributes, which nmap never does")


def _singular(reason: str) -> str:
    """`resets` → `reset`: what old releases wrote where several ports shared a reason."""
    if reason in _WORDS:
        return reason
    return next((reason[:-n] for n in (1, 2) if reason[:-n] in _WORDS and reason[-n:] in ("s", "es")), reason)


def _numbers(ports: str) -> Iterator[int]:
    """`22,80-82` → 22 80 81 82. Raises ValueError, also for more ports than there are."""
    room = _PORTS
    for part in filter(None, ports.split(",")):
        first, _, last = part.partition("-")
        low, high = int(first), int(last or first)
        room -= high + 1 - low
        if not 0 <= low <= high < _PORTS or room < 0:
            raise ValueError(f"ports {brief(part)}")
        yield from range(low, high + 1)


def _port_number(text: str, most: int = _PORTS - 1) -> int:
    number = int(text)
    if not 0 <= number <= most:
        raise ValueError(f"port {brief(text)}")
    return number
