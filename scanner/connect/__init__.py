"""The connect scan: full three-way handshakes through the sockets of the system, without privileges.

`calls` does many connect() calls at once, `scan` runs passes of them over the targets.
"""
