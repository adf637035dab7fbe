"""Sets of addresses, written down without counting them out.

Two shapes suffice. *Blocks* are (first, last) pairs; sorted and disjoint, they make every set operation
one walk. A *box* is nmap's octet range, the product of four octet sets such as 0-255.0-255.0-255.1:
16 million blocks, but four bit masks. A box without another box is at most four boxes, and a box that
falls into few blocks is turned into them, so that boxes stay few.

`carve` brings what a user wrote, overlaps and all, into disjoint shapes. A block loses boxes as blocks
where that makes few of them, and becomes boxes itself (at most seven) where it makes many. What a box
loses to blocks is left to its ranks, see `targets`.

Addresses are 128-bit integers with IPv4 mapped, as in `addresses`. Only IPv4 has boxes.

Limit: `MOST_BOXES` boxes after all cuts; thousands of overlapping wide octet ranges are refused.
"""

from collections.abc import Iterable, Iterator
from functools import lru_cache
from itertools import groupby, product
from typing import NamedTuple

from ..errors import UsageError
from ..packet.headers import MAPPED

Block = tuple[int, int]  # first and last, both inside
Box = tuple[int, int, int, int]  # per octet a 256-bit mask of its allowed values

MOST_BOXES = 2000
FEW_BLOCKS = 4096
FULL = (1 << 256) - 1
IPV4 = (MAPPED, MAPPED + 0xFFFF_FFFF)
SHIFTS = (24, 16, 8, 0)


class Region(NamedTuple):
    """A set as it was written: blocks and boxes in any order, overlapping as they may."""

    blocks: list[Block]
    boxes: list[Box]


class Carved(NamedTuple):
    """Disjoint shapes: sorted blocks, and boxes of which the sorted blocks `holes` are still to be taken away."""

    blocks: list[Block]
    boxes: list[Box]
    holes: list[Block]


def carve(include: Region, exclude: Region) -> Carved:
    """`include` without `exclude`, each address in one shape only."""
    blocks: list[Block] = []
    boxes = list(include.boxes)
    holes = list(exclude.blocks)
    for block in union(include.blocks):
        cuts = [cut for inside in _ipv4_boxes(block, exclude.boxes) for cut in _common(inside, exclude.boxes)]
        if sum(block_count(cut) for cut in cuts) <= FEW_BLOCKS:
            blocks.append(block)
            holes += (hole for cut in cuts for hole in box_blocks(cut))
        else:
            blocks += subtract([block], [IPV4])
            boxes += _ipv4_boxes(block, exclude.boxes)
    wide: list[Box] = []
    for piece in _disjoint(boxes, exclude.boxes):
        if block_count(piece) <= FEW_BLOCKS:
            blocks += box_blocks(piece)
        else:
            wide.append(piece)
    blocks, holes = union(blocks), union(holes)
    return Carved(subtract(blocks, holes), wide, union([*blocks, *holes]) if wide else holes)


def _ipv4_boxes(block: Block, excluded: list[Box]) -> list[Box]:
    """The IPv4 part of a block as boxes; none where no box asks for them."""
    return [box for part in clip([block], *IPV4) for box in block_boxes(part)] if excluded else []


def _common(box: Box, others: list[Box]) -> list[Box]:
    meets = [(box[0] & b[0], box[1] & b[1], box[2] & b[2], box[3] & b[3]) for b in others]
    return [meet for meet in meets if all(meet)]


def _disjoint(boxes: list[Box], excluded: list[Box]) -> list[Box]:
    """The boxes without `excluded`, and each without those before it."""
    found: list[Box] = []
    for at, box in enumerate(boxes):
        pieces = [box]
        for other in (*excluded, *boxes[:at]):
            pieces = [rest for piece in pieces for rest in box_minus(piece, other)]
            if len(found) + len(pieces) > MOST_BOXES:
                raise UsageError("the octet ranges overlap in too many ways: write some targets or excludes as CIDR")
        found += pieces
    return found


def union(blocks: Iterable[Block]) -> list[Block]:
    """Any blocks → the same numbers as sorted, disjoint blocks that do not touch."""
    merged: list[Block] = []
    end = -2
    for first, last in sorted(blocks):
        if first > end + 1:
            merged.append((first, last))
            end = last
        elif last > end:
            merged[-1] = (merged[-1][0], last)
            end = last
    return merged


def subtract(blocks: list[Block], holes: list[Block]) -> list[Block]:
    """Sorted disjoint blocks without sorted disjoint holes."""
    left: list[Block] = []
    at = 0
    for first, last in blocks:
        while at < len(holes) and holes[at][1] < first:
            at += 1
        cut = at
        while cut < len(holes) and holes[cut][0] <= last:
            if holes[cut][0] > first:
                left.append((first, holes[cut][0] - 1))
            first = holes[cut][1] + 1
            cut += 1
        if first <= last:
            left.append((first, last))
        at = max(at, cut - 1)  # the last hole may reach into the next block
    return left


def clip(blocks: Iterable[Block], first: int, last: int) -> list[Block]:
    """What of the blocks lies in first..last."""
    return [(max(low, first), min(high, last)) for low, high in blocks if low <= last and high >= first]


def octets(first: int, last: int) -> int:
    """The mask of the octet values first..last."""
    return ((1 << (last - first + 1)) - 1) << first


def box_size(box: Box) -> int:
    """How many addresses a box has."""
    return box[0].bit_count() * box[1].bit_count() * box[2].bit_count() * box[3].bit_count()


def box_minus(box: Box, other: Box) -> list[Box]:
    """`box` without `other`: at most four disjoint boxes."""
    common = [a & b for a, b in zip(box, other, strict=True)]
    if not all(common):
        return [box]
    pieces = [(*common[:i], box[i] & ~other[i], *box[i + 1 :]) for i in range(4)]
    return [(a, b, c, d) for a, b, c, d in pieces if a and b and c and d]


def box_blocks(box: Box) -> Iterator[Block]:
    """The blocks of a box, lowest first."""
    level = _level(box)
    unit = 1 << SHIFTS[level]
    leading = [octet_values(mask) for mask in box[:level]]
    runs = _runs(box[level])
    for values in product(*leading):
        base = MAPPED + sum(value << shift for value, shift in zip(values, SHIFTS, strict=False))
        for first, last in runs:
            yield base + first * unit, base + (last + 1) * unit - 1


def block_count(box: Box) -> int:
    """How many blocks `box_blocks` yields, without making them."""
    level = _level(box)
    count = len(_runs(box[level]))
    for mask in box[:level]:
        count *= mask.bit_count()
    return count


def block_boxes(block: Block) -> list[Box]:
    """An IPv4 block as at most seven boxes."""
    first, last = block[0] - MAPPED, block[1] - MAPPED
    boxes: list[Box] = []
    while first <= last:
        level = next(at for at, shift in enumerate(SHIFTS) if _starts_unit(first, last, 1 << shift))
        unit = 1 << SHIFTS[level]
        octet = first // unit % 256
        count = min((last - first + 1) // unit, 256 - octet)
        masks = [1 << (first >> shift & 255) for shift in SHIFTS[:level]]
        masks += [octets(octet, octet + count - 1), FULL, FULL, FULL]
        boxes.append((masks[0], masks[1], masks[2], masks[3]))
        first += count * unit
    return boxes


def _starts_unit(first: int, last: int, unit: int) -> bool:
    return first % unit == 0 and first + unit - 1 <= last


def _level(box: Box) -> int:
    """The last octet that is not full; those after it only make the blocks longer."""
    return max((i for i in range(4) if box[i] != FULL), default=0)


@lru_cache(1024)  # lists repeat the same few masks a hundred thousand times
def octet_values(mask: int) -> list[int]:
    """The values of an octet mask, lowest first; shared, not to be changed."""
    return [value for value in range(256) if mask >> value & 1]


@lru_cache(1024)
def _runs(mask: int) -> list[Block]:
    """The runs of set bits."""
    groups = groupby(enumerate(octet_values(mask)), key=lambda pair: pair[1] - pair[0])
    runs = [[value for _, value in group] for _, group in groups]
    return [(run[0], run[-1]) for run in runs]
