"""`python -m scanner` is the command `halfopen`."""

from .cli.entry import run

if __name__ == "__main__":
    run()
