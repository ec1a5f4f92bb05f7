"""The command line. Each command has a file; whatever is heavy is imported when a command runs."""

from __future__ import annotations

import sys
from typing import Any, NoReturn

import click

import fastmef
from fastmef.cli.demo import demo as demo_command
from fastmef.cli.doctor import doctor as doctor_command
from fastmef.cli.eval import evaluate as eval_command
from fastmef.cli.fuse import fuse as fuse_command
from fastmef.cli.train import train as train_command
from fastmef.errors import FastmefError


class _Commands(click.Group):
    """Expected errors end in one line and status 2, Ctrl-C in status 130: no traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except FastmefError as error:
            _stop(f"error: {error}", 2)
        except MemoryError:
            _stop("error: there is not enough memory for images of this size", 2)
        except KeyboardInterrupt:
            _stop("stopped", 130)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)  # in the order of use, not of the alphabet


def _stop(message: str, status: int) -> NoReturn:
    click.echo(f"fastmef: {message}", err=True)
    sys.exit(status)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(fastmef.__version__, prog_name="fastmef", message="%(prog)s %(version)s")
def main() -> None:
    """Fuse photographs of one scene, taken with different exposures, into one picture that shows
    both the bright and the dark parts.

    \b
    Fuse two photographs:
        fastmef fuse dark.jpg bright.jpg -o fused.jpg
    See it work on the pictures that come with fastmef:
        fastmef demo
    """


for _command in (fuse_command, demo_command, eval_command, train_command, doctor_command):
    main.add_command(_command)
