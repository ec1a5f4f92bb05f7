"""Several folders: which scenes are for training and validation, and which are not used."""

from __future__ import annotations

import pytest

from fastmef.data.pairs import find_scenes, split_scenes
from fastmef.data.training_set import find_training_scenes
from fastmef.errors import InputError


@pytest.fixture
def folders(tmp_path):
    """Ten pairs, two longer scenes, and a folder of HDR files. No file is opened here."""
    for n in range(10):
        for name in ("under.jpg", "over.jpg"):
            touch(tmp_path / "pairs" / f"p{n}" / name)
    touch(tmp_path / "pairs" / "beside.hdr")
    for scene in ("p3", "tower"):
        for k in range(5):
            touch(tmp_path / "stacks" / scene / f"{k}.png")
    for name in ("sun.hdr", "moon.EXR", "readme.txt", ".hidden.hdr"):
        touch(tmp_path / "hdr" / name)
    return [tmp_path / "pairs", tmp_path / "stacks", tmp_path / "hdr"]


def touch(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()


def names(scenes):
    return [(scene.folder, scene.name) for scene in scenes]


def test_one_folder_is_split_as_ever(folders):
    found = find_training_scenes(folders[:1], hdr=False)
    assert (found.training, found.validation) == split_scenes(find_scenes(folders[0]))


def test_all_folders(folders):
    found = find_training_scenes(folders)
    training, validation = found.training, found.validation
    assert names(validation) == [(0, "p0"), (0, "p8")]
    pairs = [(0, f"p{n}") for n in (1, 2, 3, 4, 5, 6, 7, 9)]
    files = [(0, "beside.hdr"), (2, "moon.EXR"), (2, "sun.hdr")]
    assert names(training) == [*pairs, (1, "p3"), (1, "tower"), *files]
    assert [scene.is_radiance for scene in training] == [False] * 10 + [True] * 3
    assert names(find_training_scenes(folders, hdr=False).training) == [
        *pairs,
        (1, "p3"),
        (1, "tower"),
    ]


def test_excluded_after_the_split(folders):
    """The name is excluded in every folder; who is for validation stays."""
    found = find_training_scenes(folders, ["p3", "p0", "sun.hdr"])
    training, validation = found.training, found.validation
    assert names(validation) == [(0, "p8")]
    assert names(training) == [
        *((0, f"p{n}") for n in (1, 2, 4, 5, 6, 7, 9)),
        (1, "tower"),
        (0, "beside.hdr"),
        (2, "moon.EXR"),
    ]


@pytest.mark.parametrize(
    ("exclude", "message"),
    [
        (["p33"], "cannot exclude p33: no such scene"),
        (["sun"], "cannot exclude sun: no such scene or HDR file"),
        (["p0", "p8"], "every scene for validation is excluded"),
    ],
)
def test_refused_names(folders, exclude, message):
    with pytest.raises(InputError, match=message):
        find_training_scenes(folders, exclude)


def test_names_of_files_that_are_not_used_are_known(folders):
    find_training_scenes(folders, ["sun.hdr"], hdr=False)


def test_refused_folders(folders, tmp_path):
    with pytest.raises(InputError, match="pairs: this folder is given twice"):
        find_training_scenes([folders[0], folders[1], tmp_path / "x" / ".." / "pairs"])
    with pytest.raises(InputError, match="hdr: no scene in this folder"):
        find_training_scenes([folders[2], folders[0]])
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="empty: no scene and no HDR file"):
        find_training_scenes([folders[0], tmp_path / "empty"])
    with pytest.raises(InputError, match="none: no such folder"):
        find_training_scenes([folders[0], tmp_path / "none"])
    for n in range(1, 10):
        for path in (folders[0] / f"p{n}").iterdir():
            path.unlink()
    with pytest.raises(InputError, match="no scene is left for training"):
        find_training_scenes(folders[:1], hdr=False)


class TestValidation:
    def names(self, folders, validation):
        found = find_training_scenes(folders, validation=validation)
        assert not set(names(found.training)) & set(names(found.validation))
        return [name for _, name in names(found.validation)]

    def test_share(self, folders):
        assert self.names(folders, "0.3") == ["p0", "p3", "p6"]
        assert self.names(folders, "0") == []

    def test_file_of_names(self, folders, tmp_path):
        (tmp_path / "held.txt").write_text("tower\n\n p2 \n")
        assert self.names(folders, str(tmp_path / "held.txt")) == ["p2", "tower"]

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            ("p33\n", "cannot validate p33: no such scene"),
            ("sun.hdr\n", "sun.hdr: HDR files are not for validation"),
            ("\n", "held.txt: empty"),
        ],
    )
    def test_refused_names(self, folders, tmp_path, content, message):
        (tmp_path / "held.txt").write_text(content)
        with pytest.raises(InputError, match=message):
            find_training_scenes(folders, validation=str(tmp_path / "held.txt"))

    @pytest.mark.parametrize("share", ["1", "-0.1", "3/2"])
    def test_refused_shares(self, folders, share):
        with pytest.raises(InputError, match=r"must lie in \[0, 1\)"):
            find_training_scenes(folders, validation=share)

    def test_no_such_file(self, folders):
        with pytest.raises(InputError, match="no such file; needed: a share such as 1/8"):
            find_training_scenes(folders, validation="nowhere.txt")


def test_what_is_not_used_is_named(folders):
    touch(folders[1] / "Label" / "1.jpg")
    touch(folders[1] / "notes" / "a.txt")
    touch(folders[1] / "single" / "1.jpg")
    touch(folders[0] / "p1" / "fused.jpg")
    with pytest.raises(InputError, match="single: a single image"):
        find_training_scenes(folders)
    found = find_training_scenes(folders, ["p2"], hdr=False, skip_faulty=True)
    reasons = {skipped.path.name: skipped.reason for skipped in found.skipped}
    assert reasons == {
        "fused.jpg": "beside under and over",
        "Label": "the fused images that come with SICE",
        "notes": "a folder without images",
        "single": "a single image, 1.jpg; a scene needs two or more",
        "readme.txt": "neither the folder of a scene nor an HDR file",
        "p2": "excluded",
        **dict.fromkeys(
            ("beside.hdr", "moon.EXR", "sun.hdr"),
            'HDR files are for exposures="any", or a given number of frames',
        ),
    }
    assert [skipped.path.name for skipped in found.skipped if skipped.faulty] == ["single"]
