"""Who probed whom in a capture, and which tool the probes show.

From the bottom: `fields` reads what `parse` leaves out of a SYN, `marks` has the tools' marks with their sources,
`gather` keeps columns by prober, `others` the probes that are no SYNs, `claims` decides which tool is named, `reading`
is the way from files to rows, `rows` makes text of them.
"""
