"""Capture files, read as batches of Frames and written from them.

`reader.open_captures` reads captures and `writer.PcapWriter` writes one. `source` gives the bytes of a file, `records`
finds where its records begin, `pcap` and `pcapng` read them, and `reader` makes one capture of several files.
"""
