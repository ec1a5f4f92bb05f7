"""Entry point of ``python -m bench.quality``; see run.py."""

# Functions for other processes must not be defined here: they cannot import this file as a module.
from bench.quality.run import main

raise SystemExit(main())
