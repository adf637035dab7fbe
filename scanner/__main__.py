"""`python -m scanner` is the command `halfopen`."""

from .cli import run

if __name__ == "__main__":
    run()
