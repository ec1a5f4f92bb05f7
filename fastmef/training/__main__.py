"""``torchrun --nproc-per-node N -m fastmef.training DIR -o RUN``: fastmef train in N processes."""

from __future__ import annotations

import sys

from fastmef.cli import main

if __name__ == "__main__":
    main(["train", *sys.argv[1:]], prog_name="fastmef")
