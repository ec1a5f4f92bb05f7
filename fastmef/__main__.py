"""``python -m fastmef`` is the command ``fastmef``."""

from fastmef.cli import main

if __name__ == "__main__":
    main(prog_name="fastmef")
