"""One scan by many machines: a collector hands out pieces, workers scan them, a NATS server carries the messages.

The decisions are in pure modules: what a message may say (`messages`), what a job is (`job`), who may send how fast
(`leases`), and which pieces are done, each once (`board`, `rows`). Around them are thin edges: the connection, the
spool, the collector and the worker. Workers only connect outward, and nothing that a message names is ever run.
"""
