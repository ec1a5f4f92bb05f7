"""``python -m fastmef.experiments`` is ``fastmef experiment``."""

import sys

from fastmef.cli import main

main(["experiment", *sys.argv[1:]])
