"""The optional outputs of a training: progress, pictures and records for TensorBoard."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastmef.data.extras import import_extra
from fastmef.data.images import read_image
from fastmef.training.log import Progress
from fastmef.training.run_folder import PICTURES

TENSORBOARD = "tensorboard"


@dataclass(frozen=True)
class Outputs:
    """The run folder and its optional outputs."""

    folder: Path
    pictures: int
    """Number of validation scenes whose fused images are kept."""
    tensorboard: bool
    progress: Progress | None

    def listeners(self, start: int) -> list[Progress]:
        """Return the functions that are called with every record after step ``start``.

        Raises:
            MissingExtraError: TensorBoard is wanted and not installed.
        """
        found = [] if self.progress is None else [self.progress]
        if self.tensorboard:
            found.append(tensorboard_writer(self.folder, start))
        return found


def tensorboard_writer(run: Path, start: int) -> Progress:
    """Return a function that writes records of a run for TensorBoard.

    TensorBoard will hide records of an earlier run after step ``start``.

    Raises:
        MissingExtraError: TensorBoard is not installed.
    """
    import_extra("tensorboard", "tensorboard", "writing for TensorBoard")
    from torch.utils.tensorboard import SummaryWriter

    writer = SummaryWriter(str(run / TENSORBOARD), purge_step=start + 1)

    def write(record: dict[str, Any]) -> None:
        step = record["step"]
        if record["event"] == "step":
            writer.add_scalar("loss", record["loss"], step)
            writer.add_scalar("learning_rate", record["learning_rate"], step)
            writer.add_scalar("patches_per_second", record["patches"] / record["seconds"], step)
            for group in ("terms", "times"):
                for name, value in record[group].items():
                    writer.add_scalar(f"{group}/{name}", value, step)
        elif record["event"] == "validation":
            for name, value in record.items():
                if name not in ("event", "step"):
                    writer.add_scalar(f"scores/{name}", value, step)
            for path in picture_paths(run, step):
                pixels = read_image(path).pixels
                writer.add_image(path.parent.name, pixels, step, dataformats="HWC")
            writer.flush()

    return write


def picture_paths(run: Path, step: int) -> list[Path]:
    """Return the pictures of the validation at a step."""
    return sorted((run / PICTURES).glob(f"*/{step:08}.jpg"))
