"""`python -m scanner` is the command `halfopen`."""

from .cli import main

if __name__ == "__main__":
    main()
