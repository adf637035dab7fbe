"""Packets shown to people: recorded, drawn as ladders, printed line by line; of live scans and of captures.

Listeners only: no verdict depends on them.
"""
