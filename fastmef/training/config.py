"""The configuration that decides the result of a training run."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, get_args, get_origin, get_type_hints

from fastmef.data.brackets import CURVES, RenderOptions
from fastmef.data.patches import COUNTS
from fastmef.data.training_set import VALIDATION
from fastmef.errors import InputError, shown
from fastmef.nn.network import IN_FEATURES
from fastmef.nn.objective import SCALES, WEIGHTS

RENDERING = RenderOptions()

_MANY = 10**9
# Smallest and largest values. A network of width 512 takes 4.5 GB, its training four times that.
_RANGES = {
    "width": (1, 512),
    "steps": (1, _MANY),
    "batch_size": (1, 4096),
    "patch": (16, 8192),
    "seed": (0, 2**63 - 1),
    "checkpoint_every": (1, _MANY),
    "validate_every": (1, _MANY),
    "levels": (0, 8),
    "frames": (0, 64),
    "reuse": (1, _MANY),
    "accumulate": (1, 4096),
    "hdr_bits": (1, 16),
}
_CHOICES = {
    "exposures": ("any", "fixed"),
    "blend": ("multiscale", "sum"),
    "precision": ("auto", "float32", "bfloat16"),
    "in_features": tuple(IN_FEATURES),
    "upsampling": ("bilinear", "nearest"),
    "schedule": ("cosine", "constant"),
}
_MAY_BE_EMPTY = ("folder_weights", "hdr_stops")

TERMS = tuple(WEIGHTS)
"""Names of the options that are weights of the terms of the loss."""

_SUM_OF_WEIGHTS: dict[str, Any] = {
    "exposures": "fixed",
    "blend": "sum",
    "structure": 1.0,
    "mef_ssim": 0.0,
    "mef_ssim_1_scale": 0.0,
    "mefnet": 0.0,
    "color2018": 0.0,
    "batch_size": 4,
    "patch": 250,
    "warmup": 100,
    "clip": 0.0,
}
RECIPES: dict[str, dict[str, Any]] = {
    "default": {},
    "paper": {
        **_SUM_OF_WEIGHTS,
        "in_features": "gray",
        "skip_connections": False,
        "scales": (1.0,),
    },
    "pairs": {**_SUM_OF_WEIGHTS, "mef_ssim": 0.5, "brightness": 0.1, "color": 0.1},
}
"""Named configurations, as differences from the default."""


@dataclass(frozen=True)
class TrainConfig:
    """The configuration of a training run.

    Its result depends on this configuration, the photographs, the machine and the number of
    threads.
    """

    exposures: str = "any"
    """"any" trains one network for every number of exposures; "fixed" trains a network for the
    number of exposures of the scenes, or for ``frames``."""
    frames: int = 0
    """For "fixed": number of exposures that are drawn at random from each longer scene and rendered
    from HDR files. 0 uses all exposures of a scene, whose number must be the same in every scene,
    and no HDR files."""
    counts: tuple[int, ...] = COUNTS
    """For "any": numbers of exposures to which longer brackets are thinned and HDR files rendered.
    A number that is listed twice is drawn twice as often."""
    validation: str = VALIDATION
    """Share of the first folder's scenes that are for validation, "0" for none; or a text file with
    one scene name per line."""
    folder_weights: tuple[float, ...] = ()
    """Share of the batches from each folder. If empty, all scenes are drawn equally often."""
    reuse: int = 1
    """Number of consecutive batches that are cut from the same photographs, at new positions. More
    means that fewer photographs are decoded if they do not fit into memory."""
    hdr_stops: tuple[float, ...] = RENDERING.stops
    """Least and most stops from the darkest to the brightest exposure of a rendered bracket. If
    empty, the scene's range of brightness decides."""
    hdr_curves: tuple[str, ...] = RENDERING.curves
    """Response curves to draw from: "srgb", "linear", "s"."""
    hdr_gammas: tuple[float, ...] = RENDERING.gammas
    """Smallest and largest exponent of the response curve."""
    hdr_clipped: float = RENDERING.clipped
    """Share of the pixels that may be white in the darkest exposure and dark in the brightest."""
    hdr_noise: tuple[float, ...] = RENDERING.noise
    """Variances of shot noise at white to draw from."""
    hdr_bits: int = RENDERING.bits
    """Bits to which rendered exposures are rounded."""
    width: int = 16
    """Channels of the first group; 64 is the paper's network."""
    in_features: str = "rgb"
    """"gray" reads the luma of each exposure, "rgb" all channels, "gray_max" the luma and the
    largest channel."""
    skip_connections: bool = True
    """Connect each encoder group to its decoder group; False is the paper's network."""
    upsampling: str = "bilinear"
    blend: str = "multiscale"
    """How a patch is fused for the loss: "sum" is the paper's weighted sum of the exposures at full
    size, "multiscale" weights the exposures at a coarse level and adds finer detail by local
    variance."""
    levels: int = 2
    """How often "multiscale" halves a patch before the network sees it."""
    structure: float = WEIGHTS["structure"]
    """Weight of the paper's loss, the γ-weighted SSIM loss to every exposure."""
    gamma: str = "variance_gradient"
    luminance: bool = False
    """Keep the luminance factor in the SSIM of the paper's loss."""
    scales: tuple[float, ...] = SCALES
    """Weights of the paper's loss at full size, half size, quarter size."""
    mef_ssim: float = WEIGHTS["mef_ssim"]
    """Weight of 1 - MEF-SSIM (ma2015, 3 scales)."""
    mef_ssim_1_scale: float = WEIGHTS["mef_ssim_1_scale"]
    """Weight of 1 - MEF-SSIM (ma2015, 1 scale). The finest of the three scales has only 7 % of the
    weight in the 3-scale score."""
    mefnet: float = WEIGHTS["mefnet"]
    """Weight of 1 - MEF-SSIM (mefnet), structure times luminance."""
    color2018: float = WEIGHTS["color2018"]
    """Weight of 1 - MEF-SSIM (color2018) at half size."""
    brightness: float = WEIGHTS["brightness"]
    """Weight of the pull towards well-exposed brightness."""
    color: float = WEIGHTS["color"]
    """Weight of the colour contrast term."""
    initial: str | None = None
    """Weights to start from: a bundled name, or a .safetensors file of the same network."""
    steps: int = 4000
    batch_size: int = 2
    """Patches in a batch; a bracket of more than two exposures is a batch of its own."""
    accumulate: int = 1
    """Number of batches in each process whose mean gradient makes one step."""
    patch: int = 448
    """Side of the square patches in pixels."""
    learning_rate: float = 2e-3
    """Peak of the schedule, after a linear warm-up."""
    warmup: int = 50
    schedule: str = "cosine"
    """After the warm-up: "cosine", half a cosine down to zero, or "constant"."""
    weight_decay: float = 1e-4
    clip: float = 1.0
    """Gradients with a larger norm are scaled to this norm; 0 clips none."""
    ema: float = 0.0
    """Decay of the moving average of the weights, for example 0.999. The average is validated and
    saved as the model; 0 uses the weights themselves."""
    sync_batchnorm: bool = False
    """Normalise with the statistics of the batches of all processes together."""
    recompute: bool = False
    """Recompute activations in the backward pass instead of keeping them: less memory, more time,
    the same result."""
    precision: str = "auto"
    """"float32", "bfloat16", or "auto": bfloat16 where a probe finds it faster and in agreement."""
    seed: int = 0
    checkpoint_every: int = 200
    validate_every: int = 1000

    def __post_init__(self) -> None:
        for name, kind in get_type_hints(type(self)).items():
            value = getattr(self, name)
            _check_type(name, value, kind)
            if kind is int:
                low, high = _RANGES.get(name, (0, _MANY))
                if not low <= value <= high:
                    raise InputError(f"{name} must be from {low} to {high}, got {value}")
            elif kind is float and not 0 <= value < math.inf:
                raise InputError(f"{name} must be finite and not negative, got {value}")
            elif name in _CHOICES and value not in _CHOICES[name]:
                choices = " or ".join(_CHOICES[name])
                raise InputError(f"{name} must be {choices}, got {shown(value)}")
        self._check_data()
        if not self.ema < 1:
            raise InputError(f"ema must be less than 1, got {self.ema}")
        if self.exposures == "any" and self.blend == "sum":
            raise InputError(
                'blend must be "multiscale" where exposures is "any", got "sum"; with levels=0 the '
                "weights are at full size"
            )
        if (most := (self.patch - 1).bit_length()) < self.levels:
            raise InputError(
                f"levels must be at most {most} for patches of {self.patch} pixels, "
                f"got {self.levels}"
            )
        if not any(getattr(self, name) for name in TERMS):
            raise InputError(f"one of {', '.join(TERMS)} must be above 0, got 0 for all")

    def _check_data(self) -> None:
        if self.frames == 1 or (self.frames and self.exposures == "any"):
            allowed = 'at least 2, for exposures="fixed"; counts are for "any"'
            raise InputError(f"frames must be {allowed}, got {self.frames}")
        if not all(2 <= count <= 64 for count in self.counts):
            raise InputError(f"counts must be from 2 to 64, got {self.counts}")
        if self.folder_weights and not any(self.folder_weights):
            raise InputError("one of folder_weights must be above 0, got 0 for all")
        for name, values in (("hdr_stops", self.hdr_stops), ("hdr_gammas", self.hdr_gammas)):
            if len(values) not in (1, 2) and (values or name == "hdr_gammas"):
                raise InputError(f"{name} must be a least and a greatest value, got {values}")
            if values != tuple(sorted(values)):
                raise InputError(f"{name} must not decrease, got {values}")
        for curve in self.hdr_curves:
            if curve not in CURVES:
                raise InputError(f"hdr_curves must be of {', '.join(CURVES)}, got {curve!r}")
        if not self.hdr_clipped < 0.5:
            raise InputError(f"hdr_clipped must be less than 0.5, got {self.hdr_clipped}")

    @property
    def rendering(self) -> RenderOptions:
        """The options with which HDR files are rendered."""
        return RenderOptions(
            self.hdr_stops,
            self.hdr_curves,
            self.hdr_gammas,
            self.hdr_clipped,
            self.hdr_noise,
            self.hdr_bits,
        )

    @property
    def uses_hdr(self) -> bool:
        """Whether HDR files are used."""
        return self.exposures == "any" or self.frames > 0

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def recipe(cls, name: str, **options: Any) -> TrainConfig:
        """Return a named configuration in which ``options`` override its own values.

        Args:
            name: ``"default"``; ``"paper"``, the network and the loss of arXiv 2510.21815 at a
                width that two cores can train; or ``"pairs"``, the paper's loss for pairs, with
                terms for MEF-SSIM, brightness and colour added.

        Raises:
            InputError: there is no such name or option, or a value is not allowed.
        """
        if name not in RECIPES:
            raise InputError(f"recipe must be one of {', '.join(RECIPES)}, got {name!r}")
        return cls.from_dict({**RECIPES[name], **options})

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> TrainConfig:
        if not isinstance(values, Mapping):
            raise InputError(f"training options must be a dict, got {type(values).__name__}")
        known = {field.name for field in fields(cls)}
        unknown = sorted(set(values) - known)
        if unknown:
            raise InputError(f"unknown training options: {', '.join(unknown)}")
        lists = {name: tuple(value) for name, value in values.items() if isinstance(value, list)}
        return cls(**{**values, **lists})


def _check_type(name: str, value: object, kind: Any) -> None:
    """Check a value against its annotation; whole numbers pass for floating-point ones."""
    if get_origin(kind) is tuple:
        _check_items(name, value, get_args(kind)[0])
    elif not _is_of(value, kind):
        raise InputError(
            f"{name} must be of type {getattr(kind, '__name__', kind)}, got {shown(value)}"
        )


def _check_items(name: str, value: object, kind: type) -> None:
    """Check that a value is a tuple of items of one type."""
    items = value if isinstance(value, tuple) else (None,)
    fits = all(_is_of(item, kind) for item in items) and bool(items or name in _MAY_BE_EMPTY)
    if kind is str:
        allowed = "names"
    else:
        allowed = "finite numbers, none negative"
        fits = fits and all(0 <= item < math.inf for item in items)
    if not fits:
        raise InputError(f"{name} must be {allowed}, got {shown(value)}")


def _is_of(value: object, kind: Any) -> bool:
    """Return whether a value is of a type; an int passes for a float, a bool for neither."""
    allowed = (int, float) if kind is float else kind
    return isinstance(value, allowed) and not (isinstance(value, bool) and kind is not bool)
