"""Capture files, read as batches of Frames and written from them.

`open_captures` is the way in and `PcapWriter` the way out. `source` gives the bytes of a file, `records` finds where
its records begin, `pcap` and `pcapng` read them, and `reader` makes one capture of several files.
"""

from .reader import open_captures
from .source import NO_TIME, Capture, Damage
from .writer import PcapWriter

__all__ = ["NO_TIME", "Capture", "Damage", "PcapWriter", "open_captures"]
