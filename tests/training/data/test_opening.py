"""DATA as a user names it."""

import zipfile

import numpy as np
import pytest

from tests.training.data.made_files import (
    flat,
    made_archive,
    made_mnist,
    made_subject,
    write_image,
)
from trackvae.errors import InputError, UsageError
from training.data import MADE, LoadOptions, load
from training.data.dataset import PARTS

GREY = np.linspace(0, 1, 10 * 6 * 5, dtype=np.float32).reshape(10, 6, 5)


def total(data):
    return sum(len(data.part(part)) for part in PARTS)


def test_each_kind_is_known_by_what_it_holds(tmp_path):
    (tmp_path / "digits").mkdir()
    made_mnist(tmp_path / "digits")
    (tmp_path / "glyph").mkdir()
    archive = made_archive(tmp_path / "glyph" / "a.zip", ["Greek"])
    made_subject(tmp_path / "mocap" / "01")
    for number in range(10):
        write_image(tmp_path / "crops" / f"{number}.png", flat(number))
    np.savez(tmp_path / "a.npz", images=GREY)
    np.savez(tmp_path / "v.npz", x=GREY[:, 0])
    np.savez(tmp_path / "c.npz", images=np.zeros((9, 6, 5, 3), dtype=np.uint8))
    found = {
        "digits": (72, (1, 28, 28)),
        "digits/t10k-images-idx3-ubyte": (12, (1, 28, 28)),
        "glyph": (6, (1, 28, 28)),
        "mocap": (30, (50,)),
        "mocap/01": (30, (50,)),
        "crops": (10, (3, 8, 6)),
        "a.npz": (10, (1, 6, 5)),
        "v.npz": (10, (5,)),
        "c.npz": (9, (3, 6, 5)),
    }
    assert {n: (total(load(tmp_path / n)), load(tmp_path / n).shape) for n in found} == found
    assert total(load(archive)) == 6


@pytest.mark.parametrize("name", sorted(MADE))
def test_made_sets_by_name(name):
    data = load(name)
    assert data.name == name
    assert len(data.train) > 100


def test_options_reach_the_images(tmp_path):
    for number in range(10):
        write_image(tmp_path / f"{number}.png", flat(10 * number, 8 + number, 6))
    options = LoadOptions(
        size=(12, 10), grey=True, binarise="threshold", test=0.2, validation=0.3, seed=5
    )
    data = load(tmp_path, options=options)
    assert data.shape == (1, 12, 10)
    assert [len(data.part(part)) for part in PARTS] == [5, 3, 2]
    assert {int(v) for part in PARTS for v in np.unique(data.part(part))} == {0}  # all below half
    with pytest.raises(UsageError, match="binarisation is 'grey'"):
        LoadOptions(binarise="grey")
    with pytest.raises(UsageError, match="size is"):
        LoadOptions(size=(0, 10))
    with pytest.raises(UsageError, match="seed is -1, expected 0 or more"):
        LoadOptions(seed=-1)


def test_planes_first_or_last_are_the_same_images(tmp_path):
    last = np.random.default_rng(0).random((8, 6, 5, 3)).astype(np.float32)
    np.savez(tmp_path / "last.npz", images=last)
    np.savez(tmp_path / "first.npz", images=last.transpose(0, 3, 1, 2))
    np.testing.assert_array_equal(
        load(tmp_path / "last.npz").train, load(tmp_path / "first.npz").train
    )


def test_labels_in_words(tmp_path):
    np.savez(tmp_path / "a.npz", images=GREY, labels=np.array(["dog", "cat"] * 5))
    data = load(tmp_path / "a.npz")
    assert data.label_names == ("cat", "dog")
    assert np.bincount(np.concatenate([data.labels[p] for p in PARTS])).tolist() == [5, 5]


def test_vectors_are_standardised_by_the_training_part(tmp_path):
    x = np.random.default_rng(0).normal(7, 3, size=(50, 4))
    np.savez(tmp_path / "x.npz", x=x)
    data = load(tmp_path / "x.npz")
    np.testing.assert_allclose(data.train.mean(axis=0), 0, atol=1e-5)
    back = np.concatenate([data.standardisation.undo(data.part(p)) for p in PARTS])
    np.testing.assert_allclose(np.sort(back[:, 0]), np.sort(x[:, 0]), atol=1e-4)
    with pytest.raises(UsageError, match="vectors are not binarised"):
        load(tmp_path / "x.npz", options=LoadOptions(binarise="static"))


def with_nan(array):
    array = array.copy()
    array[3].flat[0] = np.nan
    return array


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"y": GREY}, "expected an array named images or x, found y"),
        ({"images": GREY, "x": GREY[:, 0]}, "found images, x"),
        ({"images": GREY[:, 0]}, r"images is float32 \(10, 5\), expected numbers \(N, D\) for x"),
        ({"images": GREY[:1]}, r"1 example\(s\) to train on, expected at least 2"),
        ({"images": GREY[:0]}, r"0 example\(s\)"),
        ({"images": with_nan(GREY)}, r"images\[3\] holds NaN, infinity .* \(1 of 10 do\)"),
        ({"x": with_nan(GREY[:, 0])}, r"x\[3\] holds NaN"),
        ({"x": np.array([[1.0], [1e300]])}, r"x\[1\] holds NaN"),
        ({"images": 255 * GREY}, "images from 0 to 255, expected 0 to 1, or uint8"),
        ({"images": np.zeros((4, 6, 5, 2))}, "expected 1 or 3 channels, first or last"),
        ({"images": GREY, "labels": np.zeros(9)}, r"labels \(9,\) for 10 of images"),
        ({"images": np.array([None, 1])}, "it holds Python objects"),
    ],
)
def test_arrays_that_cannot_be_learned_from(tmp_path, arrays, message):
    path = tmp_path / "a.npz"
    np.savez(path, **arrays)
    with pytest.raises(InputError, match=message) as caught:
        load(path)
    assert str(caught.value).startswith(f"{path}: ")


def test_what_is_nothing_that_is_known(tmp_path):
    with pytest.raises(InputError, match=r"pendulun: no such file or folder \(did you mean 'pend"):
        load("pendulun")
    (tmp_path / "a.jpg").write_bytes(b"x")
    with pytest.raises(InputError, match=r"a .jpg file, expected a folder of images"):
        load(tmp_path / "a.jpg")
    (tmp_path / "a.npz").write_bytes(b"x")
    with pytest.raises(InputError, match=r"not a readable .npz"):
        load(tmp_path / "a.npz")
    (tmp_path / "seq").mkdir()
    (tmp_path / "seq" / "seqinfo.ini").write_text("")
    for path in (tmp_path, tmp_path / "seq"):
        with pytest.raises(InputError, match="MOT sequences, whose frames are no crops"):
            load(path)
    with pytest.raises(UsageError, match="pendulum is not binarised"):
        load("pendulum", options=LoadOptions(binarise="static"))


def test_an_archive_with_a_damaged_member(tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, images=GREY)
    content = bytearray(path.read_bytes())
    content[300] ^= 0xFF  # in the values: the checksum tells
    path.write_bytes(bytes(content))
    assert zipfile.is_zipfile(path)
    with pytest.raises(InputError, match=r"not a readable .npz"):
        load(path)
