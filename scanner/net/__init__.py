"""What the kernel knows of interfaces, neighbours and routes: asked by netlink, never guessed.

An edge: it asks and translates, and decides nothing.
"""
