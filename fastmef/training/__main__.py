"""Run ``fastmef train`` in N processes: ``torchrun --nproc-per-node N -m fastmef.training …``."""

from __future__ import annotations

import sys

from fastmef.cli import main

if __name__ == "__main__":
    main(["train", *sys.argv[1:]], prog_name="fastmef")
