"""Check and count the compiled code of the kernels; no GPU is needed.

python -m bench.machine_code triton       # compile every variant of the Triton kernels
python -m bench.machine_code cuda         # compile the CUDA C++ kernels
python -m bench.machine_code instructions # count what operations execute on a GPU
python -m bench.machine_code ncu          # compare these counts with what a GPU executes
python -m bench.machine_code callgrind    # count what the C++ kernels execute on a CPU

Every command prints a table, and ``--write`` also writes it to bench/results and docs/benchmarks;
``COMMAND --help`` says more.
"""

from __future__ import annotations

import importlib
import sys

COMMANDS = {
    "triton": "triton_kernels",
    "cuda": "cuda_kernels",
    "instructions": "instructions",
    "ncu": "ncu",
    "callgrind": "callgrind",
}


def main(arguments: list[str]) -> int:
    if not arguments or arguments[0] not in COMMANDS:
        asked_for_help = bool(arguments) and arguments[0] in ("-h", "--help")
        print((__doc__ or "").strip(), file=sys.stdout if asked_for_help else sys.stderr)
        return 0 if asked_for_help else 2
    module = importlib.import_module(f"bench.machine_code.{COMMANDS[arguments[0]]}")
    return module.main(arguments[1:]) or 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
