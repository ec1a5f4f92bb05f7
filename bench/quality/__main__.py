"""Entry point of ``python -m bench.quality``; see run.py."""

# What other processes are sent must not live here: they cannot import this file as a module.
from bench.quality.run import main

raise SystemExit(main())
