"""Who probed whom in a capture, and which tool the probes show.

From the bottom: `fields` reads what `parse` leaves out of a SYN, `marks` has the tools' marks with their sources,
`gather` keeps columns by prober, `claims` decides which tool is named, `sums` adds up what a prober did, `reading` is
the way from files to rows, `rows` makes text of them.
"""
