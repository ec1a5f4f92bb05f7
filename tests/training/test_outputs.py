"""The outputs of a run besides the weights: pictures, a plot, TensorBoard, plans."""

from __future__ import annotations

import json
import shutil

import pytest
from PIL import Image
from runs import small

from fastmef.errors import InputError, OutputError
from fastmef.training import TrainConfig, plan_training, train
from fastmef.training.plot import PLOT, plot_run
from fastmef.training.run_folder import LOG, PICTURES

SMALL = small(validate_every=2, validation="1/2")


@pytest.fixture(scope="module")
def run(pairs, tmp_path_factory):
    run = tmp_path_factory.mktemp("outputs") / "run"
    train(pairs, run, SMALL, pictures=1)
    return run


def test_pictures(run):
    pictures = sorted(path.relative_to(run / PICTURES) for path in run.rglob("*.jpg"))
    assert [str(path) for path in pictures] == ["00-a/00000002.jpg", "00-a/00000004.jpg"]
    assert Image.open(run / PICTURES / pictures[0]).size == (40, 48)


class TestPlot:
    @pytest.fixture(autouse=True)
    def matplotlib(self):
        pytest.importorskip("matplotlib", reason="matplotlib is not installed")

    def test_default(self, run):
        assert plot_run(run) == run / PLOT
        first = Image.open(run / PLOT).size
        assert plot_run(run) == run / PLOT
        assert first == Image.open(run / PLOT).size == (1200, 800)

    def test_what_is_drawn(self, run, tmp_path):
        text = plot_run(run, tmp_path / "plot.svg").read_text()
        assert text.count("<image") == 2
        for words in ("MEF-SSIM ma2015, 3 scales: 0.", "MEF-SSIM color2018", "00-a, step 4"):
            assert f"<!-- {words}" in text

    def test_without_validation(self, run, tmp_path):
        steps = [x for x in (run / LOG).read_text().splitlines() if '"step", ' in x]
        (tmp_path / LOG).write_text("\n".join(steps) + "\n")
        assert Image.open(plot_run(tmp_path)).size == (1200, 400)

    def test_refused(self, run, tmp_path):
        with pytest.raises(InputError, match=r"log\.jsonl: no such file"):
            plot_run(tmp_path)
        with pytest.raises(OutputError, match="allowed: .png, .pdf, .svg"):
            plot_run(run, tmp_path / "plot.gif")
        (tmp_path / "plot.png").touch()
        with pytest.raises(OutputError, match="exists"):
            plot_run(run, tmp_path / "plot.png")
        plot_run(run, tmp_path / "plot.png", force=True)
        (tmp_path / LOG).touch()
        with pytest.raises(InputError, match="there is no step"):
            plot_run(tmp_path)


def test_tensorboard(pairs, tmp_path):
    pytest.importorskip("tensorboard", reason="TensorBoard is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run = tmp_path / "run"
    train(pairs, run, SMALL, pictures=1, tensorboard=True)
    events = EventAccumulator(str(run / "tensorboard")).Reload()
    logged = [json.loads(line) for line in (run / LOG).read_text().splitlines()]
    losses = [record["loss"] for record in logged if record["event"] == "step"]
    assert [event.value for event in events.Scalars("loss")] == pytest.approx(losses)
    assert {"scores/mefnet", "terms/mef_ssim", "times/network"} <= set(events.Tags()["scalars"])
    assert [event.step for event in events.Images("00-a")] == [2, 4]


class TestPlan:
    def test_lists_everything(self, pairs, stacks, hdr, tmp_path):
        folder = shutil.copytree(pairs, tmp_path / "scenes")
        (folder / "b" / "over.png").write_bytes(b"damaged")
        (folder / "single").mkdir()
        shutil.copy(folder / "c" / "over.png", folder / "single")
        (folder / "Label").mkdir()
        found = plan_training([folder, stacks, hdr], TrainConfig(), ["short"])
        assert [p.scene.name for p in found.validation] == ["a"]
        assert [p.scene.name for p in found.training] == ["c", "d", "long", "room.hdr"]
        assert [(p.height, p.width) for p in found.training] == [(48, 40)] * 4
        assert [p.bytes for p in found.training] == [48 * 40 * n for n in (6, 6, 18, 12)]
        skipped = {s.path.name: s for s in found.skipped}
        assert skipped.keys() == {"b", "single", "Label", "short"}
        assert {name for name, s in skipped.items() if s.faulty} == {"b", "single"}
        assert "over.png: not an image" in skipped["b"].reason
        assert not list(tmp_path.glob("*.jsonl"))

    def test_training_without_the_faulty(self, pairs, tmp_path):
        folder = shutil.copytree(pairs, tmp_path / "scenes")
        (folder / "b" / "over.png").write_bytes(b"damaged")
        seen = []
        with pytest.raises(InputError, match=r"over\.png: not an image"):
            train(folder, tmp_path / "run", SMALL)
        train(folder, tmp_path / "other", SMALL, progress=seen.append, skip_faulty=True)
        (start,) = (record for record in seen if record["event"] == "start")
        assert len(start["skipped"]) == 1 and "b/over.png: not an image" in start["skipped"][0]
