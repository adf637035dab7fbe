"""The connect scan: full three-way handshakes through the sockets of the system, without privileges.

`calls` does many connect() calls at once, `handshake` counts the frames of each, and `scan` runs passes of them over
the targets. `verify` tests open ports of a half-open scan in the same way.
"""
