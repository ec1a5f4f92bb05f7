"""Make the network compute in float32 on every processor, so that results are comparable."""

from __future__ import annotations

import pytest

from fastmef.inference import models


@pytest.fixture(autouse=True)
def float32(monkeypatch):
    monkeypatch.setattr(models, "has_bfloat16", lambda _device: False)
    models._loaded.cache_clear()
    yield
    models._loaded.cache_clear()
