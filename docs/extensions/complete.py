"""Warn about public names without an entry in the documentation."""

from __future__ import annotations

import importlib
import inspect
import logging
import zlib
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig

LOGGER = logging.getLogger("mkdocs.hooks.complete")
PACKAGES = (
    "fastmef",
    "fastmef.experiments",
    "fastmef.functional",
    "fastmef.metrics",
    "fastmef.nn",
    "fastmef.training",
)


def on_post_build(config: MkDocsConfig) -> None:
    # mkdocstrings lists every entry in Sphinx's format: four lines of text, then compressed lines.
    inventory = Path(config.site_dir, "objects.inv").read_bytes().split(b"\n", 4)[4]
    entries = {line.split(" ", 1)[0] for line in zlib.decompress(inventory).decode().splitlines()}
    for package in PACKAGES:
        module = importlib.import_module(package)
        for name in getattr(module, "__all__", ()):
            item = getattr(module, name)
            home = f"{getattr(item, '__module__', package)}.{getattr(item, '__qualname__', name)}"
            if not inspect.ismodule(item) and not {f"{package}.{name}", home} & entries:
                LOGGER.warning("%s.%s has no entry in docs/api", package, name)
