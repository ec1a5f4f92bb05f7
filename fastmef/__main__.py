"""``python -m fastmef`` is the command ``fastmef``."""

from fastmef.cli.process import run

if __name__ == "__main__":
    run()
