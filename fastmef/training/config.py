"""Everything that decides the result of a training run."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any

from fastmef.errors import InputError


@dataclass(frozen=True)
class TrainConfig:
    """A run is determined by this configuration, the photographs, the machine and its threads."""

    width: int = 16
    """Channels of the first group; 64 is the paper's network."""
    in_features: str = "rgb"
    """"gray" reads the luma of each exposure, "rgb" all channels."""
    skip_connections: bool = True
    """Join each encoder group to its decoder group; False is the paper's network."""
    upsampling: str = "bilinear"
    gamma: str = "variance_gradient"
    luminance: bool = False
    """Keep the luminance factor in the SSIM of the loss."""
    scales: tuple[float, ...] = (0.4, 0.35, 0.25)
    """Weights of the loss at full size, half size, quarter size."""
    brightness: float = 0.1
    """Weight of the pull towards well-exposed brightness."""
    color: float = 0.1
    """Weight of the colour contrast term."""
    mef_ssim: float = 0.5
    """Weight of 1 - MEF-SSIM (ma2015, 3 scales) itself."""
    mef_ssim_1_scale: float = 0.0
    """The same at 1 scale: the finest of the three has 7 % of the weight in the score."""
    initial: str | None = None
    """Weights to start from, a bundled name or a .safetensors file of the same network."""
    steps: int = 4000
    batch_size: int = 4
    patch: int = 250
    """Side of the square patches, pixels."""
    learning_rate: float = 2e-3
    """Peak of the schedule: linear warm-up, then half a cosine down to zero."""
    warmup: int = 100
    weight_decay: float = 1e-4
    precision: str = "auto"
    """"float32", "bfloat16", or "auto": bfloat16 where a probe finds it faster and in agreement."""
    seed: int = 0
    checkpoint_every: int = 200
    validate_every: int = 1000

    def __post_init__(self) -> None:
        for name in ("width", "steps", "batch_size", "checkpoint_every", "validate_every"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.patch < 16:
            raise InputError(f"patch must be at least 16 pixels, got {self.patch}")
        if self.precision not in ("auto", "float32", "bfloat16"):
            raise InputError(f"precision must be auto, float32 or bfloat16, got {self.precision!r}")
        for name in (
            "brightness",
            "color",
            "mef_ssim",
            "mef_ssim_1_scale",
            "weight_decay",
            "learning_rate",
        ):
            if getattr(self, name) < 0:
                raise InputError(f"{name} must not be negative, got {getattr(self, name)}")

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> TrainConfig:
        known = {field.name for field in fields(cls)}
        unknown = sorted(set(values) - known)
        if unknown:
            raise InputError(f"unknown training options: {', '.join(unknown)}")
        values = dict(values)
        if "scales" in values:
            values["scales"] = tuple(values["scales"])
        return cls(**values)
