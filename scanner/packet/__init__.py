"""The bytes of packets: how they are read and written.

Offsets are tables (`headers`) and addresses are columns (`addresses`). Frames become segments (`link`, `ip`, `parse`),
and targets become frames (`template` builds one, `probe` stamps thousands, `cookie` gives their sequence numbers).
Nothing here reads or writes files or the network.
"""
