"""The comparison on a small folder of photographs: results are computed, reused and written."""

from __future__ import annotations

import contextlib
import json

import numpy as np
import pytest

cv2 = pytest.importorskip("cv2", reason="bench.quality compares with OpenCV")
pytest.importorskip("cpuinfo", reason="pytest-benchmark brings it")

from bench.quality import brackets, checks, page  # noqa: E402
from bench.quality import run as quality  # noqa: E402
from fastmef import FusionNet  # noqa: E402
from fastmef.data.images import read_image, write_image  # noqa: E402
from fastmef.metrics import SCORES, SceneScores, score_images  # noqa: E402


def radiance(seed):
    return np.exp(np.random.default_rng(seed).normal(size=(48, 64, 3))).astype(np.float32)


@pytest.fixture
def arguments(tmp_path, monkeypatch):
    """A data folder with two validation pairs, two stacks (one held out) and an HDR file."""
    data = tmp_path / "data"
    for n in range(9):
        for name, gain in (("under", 60), ("over", 400)):
            (data / "pairs" / f"p{n}").mkdir(parents=True, exist_ok=True)
            pixels = np.uint8(np.clip(gain * radiance(n), 0, 255))
            write_image(data / "pairs" / f"p{n}" / f"{name}.png", pixels)
    for scene in ("held", "another"):
        (data / "stacks" / scene).mkdir(parents=True)
        for k in range(4):
            pixels = np.uint8(np.clip(20 * 3**k * radiance(20), 0, 255))
            write_image(data / "stacks" / scene / f"{k}.png", pixels)
    (data / "hdr").mkdir()
    cv2.imwrite(str(data / "hdr" / "room.hdr"), radiance(30))
    monkeypatch.setattr(brackets, "HELD_OUT_STACKS", ("held",))
    monkeypatch.setattr(brackets, "HELD_OUT_HDR", ("room.hdr",))
    monkeypatch.setattr(quality, "RESULT", tmp_path / "quality.json")
    monkeypatch.setattr(quality, "PAGE", tmp_path / "quality.md")
    monkeypatch.setattr(quality, "_shown", str)
    FusionNet("any", width=4).save(tmp_path / "net.safetensors")
    return [str(data), "--cache", str(tmp_path / "cache"), "--write"]


@pytest.fixture
def in_process(monkeypatch):
    """Run everything here: other processes are slow to start and do not see what is patched."""

    @contextlib.contextmanager
    def processes(settings, jobs):
        yield lambda function, items: (function(settings, item) for item in items)

    monkeypatch.setattr(quality, "_processes", processes)


@pytest.mark.usefixtures("in_process")
def test_computed_reused_and_written(arguments, tmp_path, capsys, monkeypatch):
    weights = tmp_path / "net.safetensors"
    assert quality.main([*arguments, "--model", f"new={weights}"]) == 0
    result = json.loads((tmp_path / "quality.json").read_text())
    labels = ["darkest frame", "plain mean", "OpenCV Mertens", "FMMEF", "new"]
    pairs, held_out = page.unpack(result, "pairs"), page.unpack(result, "held_out")
    assert list(pairs) == ["p0", "p8"]
    assert list(held_out) == ["held/3", "held/4", *(f"room.hdr/{k}" for k in (3, 5, 9, 15, 30))]
    assert all(set(labels) <= set(scores) for scores in (*pairs.values(), *held_out.values()))
    assert set(result["robustness"]["new"]) == {"p0/2", "p8/2", "held/4"}

    text = (tmp_path / "quality.md").read_text()
    assert f"{checks.means(pairs)['FMMEF']['mefnet']:.4f}" in text
    assert all(line in text for line in result["checks"]["new"])
    assert all(line in capsys.readouterr().out for line in result["checks"]["new"][:1])

    # The second run has to compute and score another model only.
    scored = []

    class Counted(SceneScores):
        def score(self, fused):
            scored.append(fused)
            return super().score(fused)

    monkeypatch.setattr("bench.quality.scoring.SceneScores", Counted)
    for name in ("fmmef", "mertens", "plain_mean"):
        monkeypatch.setattr(f"bench.quality.methods.{name}", None)
    FusionNet("any", width=4).save(weights)
    assert quality.main([*arguments, "--cached", "new", "--model", f"newer={weights}"]) == 0
    again = json.loads((tmp_path / "quality.json").read_text())
    for group in ("pairs", "held_out"):
        for name, scores in page.unpack(result, group).items():
            now = page.unpack(again, group)[name]
            assert {label: now[label] for label in scores} == scores
    assert list(again["checks"]) == ["new", "newer"]
    assert len(scored) == len(pairs) + len(held_out)


@pytest.mark.usefixtures("in_process")
def test_a_model_is_computed_anew(arguments, tmp_path):
    """The weights behind a name may have changed since the cache was filled."""
    weights = tmp_path / "net.safetensors"
    values = []
    for width in (4, 5):
        FusionNet("any", width=width).save(weights)
        quality.main([*arguments, "--model", f"new={weights}"])
        result = json.loads((tmp_path / "quality.json").read_text())
        values.append(page.unpack(result, "pairs")["p0"])
    assert values[0]["new"] != values[1]["new"]
    assert values[0]["FMMEF"] == values[1]["FMMEF"]


@pytest.mark.usefixtures("in_process")
def test_scores_are_the_metrics(arguments, tmp_path):
    from bench.baselines.fmmef import fmmef
    from fastmef.inference.simple import as_tensor

    quality.main([*arguments, "--model", f"new={tmp_path / 'net.safetensors'}"])
    scores = page.unpack(json.loads((tmp_path / "quality.json").read_text()), "pairs")["p8"]
    folder = tmp_path / "data" / "pairs" / "p8"
    frames = [read_image(folder / f"{name}.png").pixels for name in ("under", "over")]
    expected = score_images(as_tensor(fmmef(frames)), as_tensor(*frames)[None])
    assert list(scores["FMMEF"]) == list(SCORES)
    assert scores["FMMEF"] == pytest.approx(expected, abs=1e-5)


def test_sheets_by_other_processes(arguments, tmp_path):
    weights = tmp_path / "net.safetensors"
    quality.main(
        [
            *arguments,
            "--model",
            f"new={weights}",
            "--sheet",
            str(tmp_path / "sheets"),
            "--jobs",
            "2",
        ]
    )
    names = sorted(file.name for file in (tmp_path / "sheets").iterdir())
    assert names == ["pairs_p0.jpg", "pairs_p8.jpg", "stacks_another.jpg", "stacks_held.jpg"]
    sheet = read_image(tmp_path / "sheets" / "stacks_another.jpg").pixels
    assert sheet.shape[0] > 3 * 48 and sheet.shape[1] > 2 * 64


@pytest.mark.usefixtures("in_process")
def test_a_model_that_the_cache_lacks(arguments):
    with pytest.raises(SystemExit, match="the cache has no result of old"):
        quality.main([*arguments, "--cached", "old"])


def test_labels(arguments, capsys):
    with pytest.raises(SystemExit):
        quality.main([*arguments, "--model", "weights.safetensors"])
    assert "expected LABEL=NAME_OR_FILE" in capsys.readouterr().err
