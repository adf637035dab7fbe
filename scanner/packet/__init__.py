"""Bytes: how packets look, to read and to write them.

Offsets are tables (`headers`), addresses are columns, frames become replies (`link`, `packets`, `wire`) and targets
become frames (`scapy_frames` builds one, `probe` stamps thousands, `cookie` signs them). Pure: nothing here does IO.
"""
