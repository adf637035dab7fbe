"""Results that were saved, read again: from every format of ours, from nmap's XML, and from captures.

`verdict_files` finds out what a file is, `gather` holds millions of rows as columns, `diff` compares two of them.
"""
