"""Market-1501's folders: names, who can be a query, sheets of images, and what is refused."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from reid.descriptors import ColourStripes
from reid.market import read_crops, read_market, sheets
from trackvae.errors import InputError
from trackvae.images import read_image


def crop(folder, name, *, seed=0, size=(32, 16)):
    folder.mkdir(exist_ok=True)
    image = np.random.default_rng(seed).integers(0, 256, (*size, 3)).astype(np.uint8)
    assert cv2.imwrite(str(folder / name), image)


def test_names_say_who_and_which_camera(tmp_path):
    names = [
        "-1_c1s1_000401_03.jpg",
        "0000_c6s2_000451_01.jpg",
        "0002_c1s1_000451_03.jpg",
        "1501_c12s6_001877_00.png",
        "0007_c3_f0046182.jpg",
    ]
    for name in names:
        crop(tmp_path, name)
    (tmp_path / "Thumbs.db").write_bytes(b"no image")
    found = read_crops(tmp_path)
    by_name = {
        path.name: (identity, camera)
        for path, identity, camera in zip(
            found.paths, found.ids.tolist(), found.cameras.tolist(), strict=True
        )
    }
    expected = [(-1, 1), (0, 6), (2, 1), (1501, 12), (7, 3)]
    assert by_name == dict(zip(names, expected, strict=True))


def test_queries_and_gallery_are_their_folders(tmp_path):
    crop(tmp_path / "query", "0002_c1s1_000001_00.jpg")
    for name in ("0002_c2s1_000001_00.jpg", "-1_c2s1_000001_00.jpg", "0000_c1s1_000001_00.jpg"):
        crop(tmp_path / "bounding_box_test", name)
    queries, gallery = read_market(tmp_path)
    assert queries.ids.tolist() == [2]
    assert sorted(gallery.ids.tolist()) == [-1, 0, 2]


def test_in_one_folder_all_who_are_somebody_are_queries(tmp_path):
    for name in ("0003_c1s1_000001_00.jpg", "-1_c2s1_000001_00.jpg", "0000_c1s1_000001_00.jpg"):
        crop(tmp_path, name)
    queries, gallery = read_market(tmp_path)
    assert queries.ids.tolist() == [3]
    assert len(gallery) == 3


@pytest.mark.parametrize("height", [20, 6000], ids=["many small", "few tall"])
def test_on_a_sheet_an_image_is_described_as_alone(tmp_path, height):
    for number in range(5):
        name = f"0001_c1s1_{number:06d}_00.png"
        crop(tmp_path, name, seed=number, size=(height + number, 16 + number))
    crops = read_crops(tmp_path)
    stripes = ColourStripes(bins=2)
    found = [vector for image, boxes in sheets(crops) for vector in stripes(image, boxes)]
    for path, vector in zip(crops.paths, found, strict=True):
        image = read_image(path)
        whole = np.array([[0.0, 0, image.shape[1], image.shape[0]]])
        np.testing.assert_array_equal(stripes(image, whole)[0], vector)
    assert all(len(image) < 32_000 for image, _ in sheets(crops))


class TestRefuses:
    def test_a_folder_without_identities_and_shows_a_name(self, tmp_path):
        crop(tmp_path, "0002_c1s1_000451_03.jpg")
        crop(tmp_path, "holiday.jpg")
        with pytest.raises(InputError, match=r"1 of 2 images .* such as holiday.jpg"):
            read_crops(tmp_path)

    def test_a_missing_and_an_empty_folder(self, tmp_path):
        with pytest.raises(InputError, match="no such folder"):
            read_market(tmp_path / "none")
        with pytest.raises(InputError, match="no images in it"):
            read_market(tmp_path)

    def test_half_a_data_set(self, tmp_path):
        crop(tmp_path / "query", "0002_c1s1_000451_03.jpg")
        with pytest.raises(InputError, match="belong together"):
            read_market(tmp_path)

    def test_nobody_to_look_for(self, tmp_path):
        crop(tmp_path, "0000_c1s1_000451_03.jpg")
        with pytest.raises(InputError, match="no image of anybody"):
            read_market(tmp_path)

    def test_a_broken_image(self, tmp_path):
        (tmp_path / "0002_c1s1_000451_03.jpg").write_bytes(b"\xff\xd8 no more")
        with pytest.raises(InputError, match="cut short"):
            list(sheets(read_crops(tmp_path)))
