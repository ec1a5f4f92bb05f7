"""fastmef doctor"""

from __future__ import annotations

import click


@click.command()
def doctor() -> None:
    """Show what this computer lets fastmef use, and why not the rest.

    \b
    Example:
        fastmef doctor
    """
    import fastmef

    fastmef.show_config()
