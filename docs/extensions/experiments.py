"""List the pages of the experiments that have been run in the navigation."""

from __future__ import annotations

from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig

from fastmef.cli.experiment import NAMES

SECTION, FOLDER = "Experiments", "experiments"


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    pages = [f"{FOLDER}/{name}.md" for name in NAMES]
    for section in config.nav or ():
        if SECTION in section:
            section[SECTION] += [page for page in pages if Path(config.docs_dir, page).exists()]
    return config
