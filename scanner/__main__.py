"""`python -m scanner` is the command `halfopen`."""

from .process import run

if __name__ == "__main__":
    run()
