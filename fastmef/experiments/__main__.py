"""Run ``fastmef experiment`` as ``python -m fastmef.experiments``."""

import sys

from fastmef.cli import main

main(["experiment", *sys.argv[1:]])
