"""How a scan stands: all that it takes to go on with it in another process.

Rows leave a scan when their window closes, and what is left is arithmetic (`schedule`): the key of all orders and
cookies, the place behind the last stretch that was begun, and the stretches that were begun and have not closed.
Those are simply scanned again. Only when the user ends a scan in good order there is time to keep what they have
found so far (`Known`), so that nobody is asked twice who has answered already.

As text it is JSON, with columns of numbers packed; no part of it is code.
"""

import base64
import zlib
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import UsageError
from ..verdict.ledger import RECORD, Known
from .schedule import Schedule, Stretch

LaneFacts = tuple[str, int, int, str]  # interface, IP version, hosts of this shard, gateway or ""


@dataclass(frozen=True)
class Standing:
    """The key (k0, k1), the lanes that positions refer to, and what is still to be done."""

    key: tuple[int, int]
    lanes: list[LaneFacts]
    at: tuple[int, int] = (0, 0)
    left: list[Stretch] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """For `json.dumps`."""
        return {
            "key": list(self.key),
            "lanes": [list(lane) for lane in self.lanes],
            "at": list(self.at),
            "left": [_stretch_json(each) for each in self.left],
        }


def standing_of(text: dict[str, Any]) -> Standing:
    """What `as_json` gave. Raises KeyError, TypeError or ValueError for anything else."""
    return Standing(
        (int(text["key"][0]), int(text["key"][1])),
        [(str(name), int(version), int(hosts), str(gateway)) for name, version, hosts, gateway in text["lanes"]],
        (int(text["at"][0]), int(text["at"][1])),
        [_stretch_of(each) for each in text["left"]],
    )


def schedule_of(lanes: list[LaneFacts], width: int, standing: Standing | None) -> Schedule:
    """What is to be scanned over these lanes with `width` ports a host: all of it, or what `standing` has left.

    Raises UsageError where the standing is not of these lanes.
    """
    sizes = [hosts for _, _, hosts, _ in lanes]
    if standing is None:
        return Schedule(sizes, width)
    if standing.lanes != lanes:
        raise UsageError("the ways to the targets are not what they were when the scan began: scan anew")
    _check(standing, width)
    return Schedule(sizes, width, standing.at, standing.left)


def _check(standing: Standing, width: int) -> None:
    """Raises UsageError for places that the lanes do not have."""
    sizes = [hosts for _, _, hosts, _ in standing.lanes]
    lane, position = standing.at
    holds = 0 <= lane <= len(sizes) and 0 <= position <= (sizes[lane] if lane < len(sizes) else 0)
    for stretch in standing.left:
        holds = holds and 0 <= stretch.lane < len(sizes) and stretch.first >= 0 and stretch.size > 0
        holds = holds and stretch.first + stretch.size <= sizes[stretch.lane]
        places, known = stretch.places, stretch.known
        if holds and places is not None:
            holds = len(places) > 0 and bool((places >= stretch.first).all() and (np.diff(places) > 0).all())
            holds = holds and int(places[-1]) < stretch.first + stretch.size
        if holds and known is not None:
            hosts = stretch.size if places is None else len(places)
            inside = bool(((known.target >= 0) & (known.target < hosts * width)).all())
            holds = (
                inside and len(known.macs) in (0, hosts) and bool((known.record["sender"] < len(known.senders)).all())
            )
    if not holds:
        raise UsageError("the state is damaged (it names places that there are not): scan anew")


def _stretch_json(stretch: Stretch) -> dict[str, Any]:
    found: dict[str, Any] = {"lane": stretch.lane, "first": stretch.first, "size": stretch.size}
    if stretch.places is not None:
        found["places"] = _packed(stretch.places)
    known = stretch.known
    if known is not None:
        found["known"] = {
            "target": _packed(known.target),
            "record": _packed(known.record),
            "sent": _packed(known.sent),
            "senders": [sender.hex() for sender in known.senders],
            "macs": _packed(known.macs),
        }
    return found


def _stretch_of(text: dict[str, Any]) -> Stretch:
    places = _unpacked(text["places"], np.int64) if "places" in text else None
    stretch = Stretch(int(text["lane"]), int(text["first"]), int(text["size"]), places)
    known = text.get("known")
    if known is None:
        return stretch
    target, sent = (_unpacked(known[name], np.int64) for name in ("target", "sent"))
    record, macs = _unpacked(known["record"], RECORD), _unpacked(known["macs"], "V6")
    if not len(target) == len(record) == len(sent):
        raise ValueError("columns of different lengths")
    return stretch._replace(
        known=Known(target, record, sent, [bytes.fromhex(sender) for sender in known["senders"]], macs)
    )


def _packed(column: npt.NDArray[Any]) -> str:
    return base64.b64encode(zlib.compress(column.tobytes())).decode()


def _unpacked(text: str, dtype: npt.DTypeLike) -> npt.NDArray[Any]:
    try:
        return np.frombuffer(zlib.decompress(base64.b64decode(text)), dtype).copy()
    except zlib.error as error:
        raise ValueError(str(error)) from error
