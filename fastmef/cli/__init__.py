"""The command line. Each command has a file, and imports slow modules only when it runs."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
import warnings
from typing import Any, NoReturn

import click

import fastmef
from fastmef.cli.demo import demo as demo_command
from fastmef.cli.doctor import doctor as doctor_command
from fastmef.cli.eval import evaluate as eval_command
from fastmef.cli.experiment import experiment as experiment_command
from fastmef.cli.export import export as export_command
from fastmef.cli.fuse import fuse as fuse_command
from fastmef.cli.plot import plot as plot_command
from fastmef.cli.signals import Terminated, raise_on_termination
from fastmef.cli.train import train as train_command
from fastmef.errors import FastmefError, is_out_of_memory


class _Commands(click.Group):
    """Report expected errors in one line, without a traceback.

    The exit status is 2 for an error, 128 plus its number for a signal, and 1 if the reader of the
    output has closed it, as ``head`` does.
    """

    def main(self, *arguments: Any, **options: Any) -> Any:
        # Pillow warns about damaged EXIF, which is dropped.
        warnings.filterwarnings("ignore", module=r"PIL\.")
        try:
            with raise_on_termination():
                try:
                    return super().main(*arguments, **options)
                finally:
                    if sys.stdout is not None:  # it is None if the output is closed
                        sys.stdout.flush()
        except OSError as error:
            with contextlib.suppress(OSError):
                sys.stdout.close()
            sys.stdout = open(os.devnull, "w")  # noqa: SIM115
            if error.errno == errno.EPIPE:
                sys.exit(1)
            what = "cannot write the output" if error.filename is None else ascii(error.filename)
            _stop(f"error: {what}: {(error.strerror or str(error)).lower()}", 2)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except FastmefError as error:
            _stop(f"error: {error}", 2)
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            _stop("error: there is not enough memory", 2)
        except Terminated as signal:
            _stop("stopped", 128 + signal.number)
        except KeyboardInterrupt:
            _stop("stopped", 130)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)  # click would sort them alphabetically


def _stop(message: str, status: int) -> NoReturn:
    """Print a message on stderr and end the process."""
    with contextlib.suppress(OSError):
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
    Fuse the bundled photographs:
        fastmef demo
    """


for _command in (
    fuse_command,
    demo_command,
    eval_command,
    train_command,
    plot_command,
    export_command,
    experiment_command,
    doctor_command,
):
    main.add_command(_command)
