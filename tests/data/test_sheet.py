"""The contact sheet: every picture in its place, with something written above it."""

from __future__ import annotations

import numpy as np

from fastmef.data.sheet import _GAP, _TEXT_HEIGHT, contact_sheet


def flat(value, height=90, width=120):
    return np.full((height, width, 3), value, np.uint8)


def test_places_and_labels():
    sheet = contact_sheet([[("one", flat(10)), ("two", flat(60))], [("three", flat(120))]])
    row = _GAP + _TEXT_HEIGHT
    assert sheet.shape == (_GAP + 2 * (90 + row), _GAP + 2 * (120 + _GAP), 3)
    column, below = _GAP, row + 90 + row
    assert (sheet[row : row + 90, column : column + 120] == 10).all()
    assert (sheet[row : row + 90, column + 120 + _GAP : -_GAP] == 60).all()
    assert (sheet[below : below + 90, column : column + 120] == 120).all()
    assert sheet[_GAP:row, column : column + 120].min() < 100  # the label
    assert (sheet[:_GAP] == 255).all()


def test_columns_line_up():
    sheet = contact_sheet(
        [[("", flat(0, 9, 30)), ("", flat(0, 9, 30))], [("", flat(0, 9, 50))] * 2]
    )
    dark = (sheet == 0).all(axis=2)
    row = _GAP + _TEXT_HEIGHT
    assert np.flatnonzero(dark[row])[30] == np.flatnonzero(dark[row + 9 + row])[50]


def test_reduced_in_proportion():
    sheet = contact_sheet([[("", flat(10, 300, 1000))]], width=200)
    assert (sheet[_GAP + _TEXT_HEIGHT : -_GAP, _GAP:-_GAP] == 10).all()
    assert sheet.shape == (60 + _TEXT_HEIGHT + 2 * _GAP, 200 + 2 * _GAP, 3)


def test_grey():
    sheet = contact_sheet([[("", flat(77)[..., 0])]])
    assert (sheet[_GAP + _TEXT_HEIGHT : -_GAP, _GAP:-_GAP] == 77).all()


def test_narrow_pictures_keep_their_labels():
    sheet = contact_sheet([[("a long label", flat(0, 5, 2)), ("next", flat(0, 5, 2))]])
    assert sheet.shape[1] > 60
