"""Add files from elsewhere in the repository as pages, and rewrite links to them.

Such a file is read in the repository and in the documentation. Its links are relative to its path
in the repository.
"""

from __future__ import annotations

import re
from pathlib import Path
from posixpath import normpath, relpath

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

# Page of the documentation → file of the repository.
SOURCES = {
    "benchmarks/index.md": "bench/README.md",
    "changelog.md": "CHANGELOG.md",
    "contributing.md": "CONTRIBUTING.md",
    "security.md": "SECURITY.md",
    "weights/default.md": "fastmef/weights/default.md",
    "weights/pairs.md": "fastmef/weights/pairs.md",
    "weights/paper.md": "fastmef/weights/paper.md",
}
PAGES = {source: page for page, source in SOURCES.items()}
LINK = re.compile(r"(?<=\]\()(?!\w+:|#)([^)#\s]+)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    root = Path(config.docs_dir).parent
    for page, source in SOURCES.items():
        files.append(File.generated(config, page, abs_src_path=str(root / source)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    uri = page.file.src_uri
    here = SOURCES.get(uri, f"docs/{uri}").rpartition("/")[0]

    def rewrite(match: re.Match[str]) -> str:
        target = normpath(f"{here}/{match[1]}" if here else match[1])
        target = PAGES.get(target, target.removeprefix("docs/"))
        return relpath(target, uri.rpartition("/")[0] or ".")

    return LINK.sub(rewrite, markdown)
