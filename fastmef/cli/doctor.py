"""The command ``fastmef doctor``."""

from __future__ import annotations

import click


@click.command()
def doctor() -> None:
    """Show which kernels run on this machine, and why the others do not.

    \b
    Example:
        fastmef doctor
    """
    import fastmef

    fastmef.show_config()
