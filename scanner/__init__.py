"""halfopen: a half-open TCP scanner, and the judge of anyone's capture."""

__version__ = "0.1.0"
