"""Saved results, read again: from every format of halfopen, from nmap's XML, and from captures.

`read` finds out what a file is, `columns` holds millions of rows as columns, `diff` compares two results, and `merge`
makes one result of several.
"""
