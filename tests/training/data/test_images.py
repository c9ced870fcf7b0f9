"""Images from files: what is written is read, and what is damaged is named."""

import gzip

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.training.data.made_files import flat, made_archive, made_mnist, write_image
from trackvae.errors import InputError
from training.data.dataset import PARTS
from training.data.idx import read_idx, write_idx
from training.data.images import idx_images, image_folder, list_images, mnist, omniglot

KINDS = ["u1", "i1", "i2", "i4", "f4", "f8"]


@given(st.sampled_from(KINDS), st.lists(st.integers(0, 4), min_size=1, max_size=4), st.booleans())
def test_idx_written_and_read_is_equal(tmp_path_factory, kind, shape, packed):
    path = tmp_path_factory.mktemp("idx") / ("a-ubyte.gz" if packed else "a-ubyte")
    array = np.random.default_rng(0).integers(0, 100, size=shape).astype(kind)
    write_idx(path, array)
    assert path.read_bytes().startswith(b"\x1f\x8b") == packed
    read = read_idx(path)
    assert read.dtype == array.dtype
    np.testing.assert_array_equal(read, array)


def test_idx_by_hand(tmp_path):
    (tmp_path / "a").write_bytes(bytes([0, 0, 8, 2, 0, 0, 0, 2, 0, 0, 0, 3, 1, 2, 3, 4, 5, 6]))
    assert read_idx(tmp_path / "a").tolist() == [[1, 2, 3], [4, 5, 6]]


def idx_bytes(array):
    header = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, dtype=">u4").tobytes()
    return header + array.astype(np.uint8).tobytes()


GOOD = idx_bytes(np.zeros((3, 4, 4)))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not an idx file: it starts with nothing"),
        (b"\x89PNG\r\n", "not an idx file: it starts with 89 50 4e 47"),
        (b"\0\0\x07\x03" + GOOD[4:], "not an idx file: it starts with 00 00 07 03"),
        (GOOD[:9], "ends in its header"),
        (GOOD[:-1], r"cut short or damaged: 47 bytes of values, its header \(3 x 4 x 4\) .* 48"),
        (GOOD + b"\0", "damaged: 49 bytes"),
        (gzip.compress(GOOD)[:-12], "a gzip file cut short or damaged"),
        (gzip.compress(GOOD)[:12] + b"\xff" * 9, "a gzip file cut short or damaged"),
        (idx_bytes(np.zeros(3)), "of 1 dimension.*expected 3.*labels in place of images"),
        (idx_bytes(np.zeros((0, 4, 4))), "no images in it"),
        (b"\0\0\x0d\x03" + GOOD[4:16] + b"\0" * 192, "values of type float32, expected bytes"),
        (idx_bytes(np.zeros((1, 4, 4))), r"1 example\(s\) to train on"),
    ],
)
def test_damaged_idx(tmp_path, content, message):
    path = tmp_path / "images"
    path.write_bytes(content)
    with pytest.raises(InputError, match=message) as caught:
        idx_images(path)
    assert str(caught.value).startswith(f"{path}: ")


@pytest.mark.parametrize("ending", ["", ".gz"])
def test_mnist_s_four_files(tmp_path, ending):
    data = mnist(made_mnist(tmp_path, ending=ending), binarise="none")
    assert [len(data.part(p)) for p in PARTS] == [50, 10, 12]
    raw = read_idx(tmp_path / f"train-images-idx3-ubyte{ending}")
    np.testing.assert_array_equal(data.train[:, 0], raw[:50])
    np.testing.assert_array_equal(data.validation[:, 0], raw[50:])
    assert data.labels["validation"].tolist() == [n % 10 for n in range(50, 60)]
    assert set(np.unique(mnist(tmp_path).train)) == {0, 255}


def test_mnist_with_a_file_missing_or_exchanged(tmp_path):
    made_mnist(tmp_path)
    labels = tmp_path / "train-labels-idx1-ubyte"
    write_idx(labels, np.zeros(59, dtype=np.uint8))
    with pytest.raises(InputError, match="59 labels for the 60 images of"):
        mnist(tmp_path)
    labels.unlink()
    assert "train" not in mnist(tmp_path).labels  # images alone are enough to learn from
    (tmp_path / "t10k-images-idx3-ubyte").unlink()
    with pytest.raises(InputError, match=r"t10k-images-idx3-ubyte: no such file \(nor .*gz\)"):
        mnist(tmp_path)


def test_a_folder_is_read_recursively_in_natural_order(tmp_path):
    levels = {"b/img10.png": 30, "b/img2.png": 20, "a/x.png": 10, "b/.hidden.png": 99}
    for name, level in levels.items():
        write_image(tmp_path / name, flat(level))
    (tmp_path / "b" / "notes.txt").write_text("no image")
    names = [path.relative_to(tmp_path).as_posix() for path in list_images(tmp_path)]
    assert names == ["a/x.png", "b/img2.png", "b/img10.png"]
    data = image_folder(tmp_path, test=0.0)
    assert data.shape == (3, 8, 6)
    assert data.label_names == ("a", "b")
    found = dict(zip(data.train[:, 0, 0, 0].tolist(), data.labels["train"].tolist(), strict=True))
    assert found == {10: 0, 20: 1, 30: 1}


def test_colours_stay_in_opencv_s_order_and_grey_is_one_channel(tmp_path):
    blue = np.zeros((4, 4, 3), dtype=np.uint8)
    blue[..., 0] = 200
    for number in range(2):
        write_image(tmp_path / f"{number}.png", blue)
    assert image_folder(tmp_path).train[0, :, 0, 0].tolist() == [200, 0, 0]
    assert image_folder(tmp_path, grey=True).shape == (1, 4, 4)


@given(st.integers(1, 40), st.integers(1, 40))
def test_resizing_keeps_the_mean_of_a_flat_image(tmp_path_factory, height, width):
    folder = tmp_path_factory.mktemp("flat")
    for number in range(2):
        write_image(folder / f"{number}.png", flat(77, height + number, width))
    data = image_folder(folder, size=(12, 10))
    assert data.shape == (3, 12, 10)
    assert set(np.unique(data.train)) == {77}


def test_a_folder_that_cannot_be_learned_from(tmp_path):
    with pytest.raises(InputError, match=r"nowhere: no such folder"):
        image_folder(tmp_path / "nowhere")
    with pytest.raises(InputError, match="no images in this folder, expected at least 2"):
        image_folder(tmp_path)
    write_image(tmp_path / "1.png", flat(1))
    with pytest.raises(InputError, match=r"1 image in this folder \(1.png\), expected"):
        image_folder(tmp_path)
    write_image(tmp_path / "2.png", flat(1, 9, 7))
    with pytest.raises(InputError, match=r"2.png: 7 x 9 pixels, but 1.png has 6 x 8; give a size"):
        image_folder(tmp_path)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda b: b"", "an empty file"),
        (lambda b: b[: len(b) // 2], "cut short"),
        (lambda b: b"hello" * 20, "broken image, or none at all"),
    ],
)
def test_a_broken_image_is_named(tmp_path, damage, message):
    write_image(tmp_path / "1.png", flat(1))
    path = write_image(tmp_path / "2.png", flat(2))
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(InputError, match=message) as caught:
        image_folder(tmp_path)
    assert str(caught.value).startswith(f"{path}: ")


def test_omniglot_counts_an_alphabet_in_two_archives_once(tmp_path):
    made_archive(tmp_path / "small1.zip", ["Greek", "Latin"])
    made_archive(tmp_path / "small2.zip", ["Latin", "Tagalog"])
    data = omniglot(tmp_path, binarise="none")
    assert data.label_names == ("Greek", "Latin", "Tagalog")
    labels = np.concatenate([data.labels[p] for p in PARTS])
    assert np.bincount(labels).tolist() == [6, 6, 6]
    assert data.shape == (1, 28, 28)
    ink = np.concatenate([data.values(p) for p in PARTS]).mean(axis=(1, 2, 3))
    np.testing.assert_allclose(ink, 30 * 15 / 105**2, rtol=0.01)  # the share of ink is kept


def test_omniglot_s_damaged_archives(tmp_path):
    with pytest.raises(InputError, match=r"no .zip in this folder"):
        omniglot(tmp_path)
    path = made_archive(tmp_path / "a.zip", ["Greek"])
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(InputError, match=r"a.zip: not a readable zip, or a damaged one"):
        omniglot(path)
    with pytest.raises(InputError, match=r"b.zip: no such file"):
        omniglot([tmp_path / "b.zip"])
    made_archive(path, [])
    with pytest.raises(InputError, match=r"a.zip: 0 image\(s\) in it"):
        omniglot(path)


@pytest.mark.real_data
def test_mnist_itself(real_data):
    data = mnist(real_data / "data" / "mnist", binarise="none")
    assert [part.shape for part in (data.train, data.validation, data.test)] == [
        (50_000, 1, 28, 28),
        (10_000, 1, 28, 28),
        (10_000, 1, 28, 28),
    ]
    assert data.labels["train"][:5].tolist() == [5, 0, 4, 1, 9]
    counts = np.bincount(np.concatenate([data.labels["train"], data.labels["validation"]]))
    assert counts.tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert np.bincount(data.labels["test"])[:3].tolist() == [980, 1135, 1032]
    everything = np.concatenate([data.train, data.validation])
    assert everything.mean() / 255 == pytest.approx(0.1307, abs=1e-4)  # the published mean


@pytest.mark.real_data
def test_omniglot_itself(real_data):
    data = omniglot(real_data / "data" / "omniglot")
    # Two archives of 2,720 and 3,120 images, of which Greek and Latin (1,000) are in both.
    assert [len(data.part(p)) for p in PARTS] == [3434, 201, 1205]
    assert len(data.label_names) == 8
    counts = np.bincount(np.concatenate([data.labels[p] for p in PARTS]))
    assert dict(zip(data.label_names, counts.tolist(), strict=True)) == {
        "Balinese": 480,
        "Early_Aramaic": 440,
        "Greek": 480,
        "Japanese_(katakana)": 940,
        "Korean": 800,
        "Latin": 520,
        "Sanskrit": 840,
        "Tagalog": 340,
    }
