"""The pages contain the values of the result files."""

from __future__ import annotations

import pytest

pytest.importorskip("cv2", reason="bench.quality compares with OpenCV")

from bench import scores, tables  # noqa: E402


@pytest.mark.parametrize("module", [tables, scores], ids=["tables", "scores"])
def test_figures_are_those_of_the_result_files(module, monkeypatch, tmp_path):
    found = {}

    def compare(name, text, file=None):
        file = tables.PAGES[name] if file is None else file
        begin, end = f"<!-- {name}: begin -->\n", f"<!-- {name}: end -->\n"
        page = file.read_text().split(begin)[1].split(end)[0]
        found[file, name] = page == f"\n{text}\n"

    monkeypatch.setattr(module, "rewrite", compare)
    module.main()
    assert found and all(found.values()), f"run python -m {module.__name__}: {found}"


def test_tables_of_machine_code_are_those_of_the_result_file():
    from bench.machine_code import callgrind, cuda_kernels, instructions, results, triton_kernels

    sections = results.read()
    for name, module in {
        "callgrind": callgrind,
        "cuda": cuda_kernels,
        "instructions": instructions,
        "triton": triton_kernels,
    }.items():
        page = tables.PAGES[name].read_text()
        table = page.split(f"<!-- {name}: begin -->\n")[1].split(f"<!-- {name}: end -->")[0]
        assert table.strip() == module.table(sections[name]).strip(), name


def test_every_row_of_the_figure_has_been_measured():
    plots = pytest.importorskip("bench.plots", reason="matplotlib is not installed")
    times = plots.medians()
    for row in plots.ROWS:
        assert times[row]["fastmef"] > 0
        assert set(times[row]) - set(plots.NOT_DRAWN), f"nothing stands beside fastmef in {row}"
