"""Every experiment runs, states its data, and continues after it was stopped."""

from __future__ import annotations

import json
from dataclasses import asdict, replace

import pytest
from click.testing import CliRunner

from fastmef.cli import main
from fastmef.cli.experiment import NAMES
from fastmef.errors import InputError
from fastmef.experiments import run_experiment
from fastmef.experiments.budget import BUDGETS
from fastmef.experiments.run import EXPERIMENTS, render
from fastmef.experiments.store import Store

pytest.importorskip("matplotlib", reason="figures are drawn with matplotlib")


@pytest.fixture(scope="session")
def work(tmp_path_factory):
    return tmp_path_factory.mktemp("work")


def test_the_command_line_names_every_experiment():
    assert tuple(EXPERIMENTS) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_experiment(name, data, tiny, work, tmp_path):
    computed = []
    page = run_experiment(name, data, tmp_path, tiny, work, computed.append)
    assert computed
    text = page.read_text()
    head = text[: text.index("## How it is measured")]
    assert EXPERIMENTS[name].question in head and "\n- " in head
    assert text.count("commit `") + text.count("commit version") >= text.count("|---|")
    assert f"fastmef experiment {name} DATA -o OUT" in text
    for target in (f"{name}.svg", f"{name}.jpg"):
        assert (f"]({target})" in text) == (tmp_path / target).exists()
    assert (tmp_path / f"{name}.svg").stat().st_size < 200_000
    result = json.loads((tmp_path / f"{name}.json").read_text())
    assert result["budget"]["steps"] == tiny.steps
    assert text == render(EXPERIMENTS[name], result)

    again = []
    before = page.read_bytes()
    run_experiment(name, data, tmp_path, tiny, work, again.append)
    assert not again
    assert page.read_bytes() == before


def test_command(data, tiny, tmp_path, monkeypatch):
    monkeypatch.setitem(BUDGETS, "small", tiny)
    monkeypatch.setitem(EXPERIMENTS, "truth", replace(EXPERIMENTS["truth"], small={"scenes": 1}))
    result = CliRunner().invoke(
        main, ["experiment", "truth", str(data), "-o", str(tmp_path / "out")]
    )
    assert result.exit_code == 0, result.output
    page = tmp_path / "out" / "truth.md"
    assert result.output.endswith(f"{page} written\n")
    assert "`fastmef experiment truth DATA -o OUT`" in page.read_text()
    found = json.loads(page.with_suffix(".json").read_text())
    assert found["budget"] == asdict(tiny) | {"scenes": 1}


def test_a_stopped_experiment_goes_on(tmp_path):
    store = Store(tmp_path, lambda line: None)
    assert store.get("a", {"seed": 0}, lambda: {"x": 1.0}) == {"x": 1.0}
    assert store.get("a", {"seed": 0}, lambda: {"x": 2.0}) == {"x": 1.0}
    assert store.get("a", {"seed": 1}, lambda: {"x": 2.0}) == {"x": 2.0}


def test_missing_data_is_named(data, tiny, tmp_path):
    with pytest.raises(InputError, match="needs a folder pairs in it"):
        run_experiment("gamma", data / "hdr", tmp_path, tiny)
    with pytest.raises(InputError, match="experiment must be one of gamma"):
        run_experiment("beta", data, tmp_path, tiny)
    with pytest.raises(InputError, match="budget must be one of small, full, got 'huge'"):
        run_experiment("gamma", data, tmp_path, "huge")
