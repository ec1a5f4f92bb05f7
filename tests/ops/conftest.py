from __future__ import annotations

from collections.abc import Iterator

import pytest
from conformance import Backend, parametrize, run_on
from cpp_fixtures import agree, isa, kernels, scene  # noqa: F401

pytest_generate_tests = parametrize


@pytest.fixture
def backend(request: pytest.FixtureRequest) -> Iterator[Backend]:
    """Run the test on one of the backends of the operation; see tests/support/conformance.py."""
    with run_on(request.param, lambda: request.getfixturevalue("emulation")) as backend:
        yield backend
