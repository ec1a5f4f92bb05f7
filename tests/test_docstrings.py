"""The examples in public docstrings run, and public names have the sections that they promise."""

from __future__ import annotations

import doctest
import inspect

import pytest
import torch

import fastmef
from fastmef import functional, metrics, nn

MODULES = {"fastmef": fastmef, "functional": functional, "metrics": metrics, "nn": nn}
CALLABLE = {
    f"{module}.{name}": getattr(MODULES[module], name)
    for module in MODULES
    for name in MODULES[module].__all__
    if callable(getattr(MODULES[module], name))
}
# Results and errors are not called, and show_config prints what this machine has.
WITHOUT_EXAMPLES = {
    "fastmef.DivergenceError",
    "fastmef.FastmefError",
    "fastmef.FusionOutput",
    "fastmef.InputError",
    "fastmef.MissingExtraError",
    "fastmef.OutputError",
    "fastmef.show_config",
    "nn.FusionOutput",
    "nn.ObjectiveOutput",
}
NAMES = {
    "torch": torch,
    **{name: getattr(module, name) for module in MODULES.values() for name in module.__all__},
}


def methods(owner: type) -> dict[str, object]:
    """Return the methods of a class that it documents itself."""
    members = vars(owner).items()
    return {
        name: getattr(member, "__func__", member)
        for name, member in members
        if not name.startswith("_") and getattr(member, "__doc__", None)
    }


@pytest.mark.parametrize("name", CALLABLE)
def test_examples_run(name):
    """The examples run in a session with the imports of ``NAMES``."""
    torch.manual_seed(0)
    runner = doctest.DocTestRunner(verbose=False)
    given = {name: CALLABLE[name]}
    if inspect.isclass(CALLABLE[name]):
        given |= {f"{name}.{method}": f for method, f in methods(CALLABLE[name]).items()}
    examples = 0
    for label, thing in given.items():
        text = inspect.getdoc(thing) or ""
        test = doctest.DocTestParser().get_doctest(text, dict(NAMES), label, None, None)
        examples += len(test.examples)
        output: list[str] = []
        runner.run(test, out=output.append)
        assert not output, "".join(output)
    assert (examples == 0) == (name in WITHOUT_EXAMPLES)


@pytest.mark.parametrize("name", functional.__all__)
def test_sections_of_operations(name):
    """Shapes, results and errors stand where a reader looks for them, options under their names."""
    function = getattr(functional, name)
    text = inspect.getdoc(function)
    sections = [line for line in text.splitlines() if line in ("Args:", "Returns:", "Raises:")]
    assert sections == ["Args:", "Returns:", "Raises:"]
    assert "Source: " in text
    arguments = text[text.index("Args:") : text.index("Returns:")]
    described = {
        each.strip()
        for line in arguments.splitlines()
        if line.startswith("    ") and not line.startswith("     ")
        for each in line.partition(":")[0].split(",")
    }
    assert described == set(inspect.signature(function).parameters)
