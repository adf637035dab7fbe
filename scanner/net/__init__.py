"""What the kernel knows of interfaces and routes, read over netlink.

This package reads and translates facts. It does not decide how a scan uses them.
"""
