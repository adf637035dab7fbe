"""Larger networks than the demo's, for the live tests and the benchmarks, built from the parts in `scanner.lab`.

`networks` has a router, many hosts, or a cable with faults (`wire`); `scenes` are bad paths with their ground truth.
`live` marks the tests that need a lab.
"""
