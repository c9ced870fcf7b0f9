"""Crops of a frame: exact cases, symmetries, and a loop of cv2.resize as the oracle."""

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reid.crops import cut, whole_pixels
from tools.crops import crops_of
from trackvae.errors import InputError, UsageError

HEIGHT, WIDTH = 240, 320


def textured(seed=0):
    """Noise of several sizes, as fine and as coarse as in photographs."""
    rng = np.random.default_rng(seed)
    image = np.zeros((HEIGHT, WIDTH, 3))
    for scale in (2, 4, 8, 16, 32, 64):
        noise = rng.standard_normal((HEIGHT // scale + 2, WIDTH // scale + 2, 3)) * scale**0.7
        image += cv2.resize(noise, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)
    low, high = np.percentile(image, (1, 99))
    return ((image - low) / (high - low) * 255).clip(0, 255).astype(np.uint8)


IMAGE = textured()


def naive(image, boxes, size):
    """Box by box, as the crops are made that encoders are trained on."""
    crops = []
    for left, top, right, bottom in boxes:
        x0, y0 = (int(np.clip(np.floor(v), 0, m - 1)) for v, m in ((left, WIDTH), (top, HEIGHT)))
        x1 = int(np.clip(np.ceil(right), x0 + 1, WIDTH))
        y1 = int(np.clip(np.ceil(bottom), y0 + 1, HEIGHT))
        smaller = size[0] <= y1 - y0 and size[1] <= x1 - x0
        how = cv2.INTER_AREA if smaller else cv2.INTER_LINEAR
        crops.append(cv2.resize(image[y0:y1, x0:x1], size[::-1], interpolation=how))
    return np.array(crops).transpose(0, 3, 1, 2)


def random_boxes(seed, count, least=4.0, most=200.0):
    rng = np.random.default_rng(seed)
    corner = rng.uniform((-20, -20), (WIDTH - 30, HEIGHT - 30), (count, 2))
    return np.hstack([corner, corner + rng.uniform(least, most, (count, 2))])


def off(crops, expected):
    """Mean and largest difference in grey levels."""
    difference = np.abs(crops.astype(int) - expected)
    return difference.mean(), difference.max()


# --- against the loop


@given(st.integers(0, 2**31), st.sampled_from([(16, 16), (32, 16), (64, 64), (5, 9)]))
def test_is_a_loop_of_resizing_within_rounding(seed, size):
    boxes = random_boxes(seed, 12)
    mean, _ = off(cut(IMAGE, boxes, size), naive(IMAGE, boxes, size))
    assert mean < 1.2  # of 255; 0.5 on photographs


@given(st.integers(0, 2**31))
def test_what_grows_is_interpolated_as_by_opencv(seed):
    boxes = random_boxes(seed, 8, most=40)
    _, largest = off(cut(IMAGE, boxes, (48, 48)), naive(IMAGE, boxes, (48, 48)))
    assert largest <= 5  # places to a 32nd of a pixel, against a 2048th


def test_training_crops_come_out(tmp_path):
    """The same boxes through the files and the code that make training data."""
    (tmp_path / "img1").mkdir()
    (tmp_path / "gt").mkdir()
    boxes = np.array([[30.2, 20.7, 80.1, 150.3], [100, 40, 190.5, 230], [-10, 5, 60, 120.9]])
    lines = []
    for frame in (1, 2, 3):
        cv2.imwrite(str(tmp_path / "img1" / f"{frame:06d}.png"), IMAGE)
        for number, (left, top, right, bottom) in enumerate(boxes):
            lines.append(f"{frame},{number + 1},{left},{top},{right - left},{bottom - top},1,1,1\n")
    (tmp_path / "gt" / "gt.txt").write_text("".join(lines))
    data = crops_of(tmp_path, size=(32, 24), boxes="gt", test=0.0)
    mean, _ = off(np.tile(cut(IMAGE, boxes, (32, 24)), (3, 1, 1, 1)), data.train)
    assert mean < 1.0


@pytest.mark.real_data
def test_on_a_real_frame(real_data):
    folder = real_data / "data" / "mot" / "TUD-Campus"
    image = cv2.imread(str(next((folder / "img1").glob("*1.jpg"))))
    table = np.loadtxt(folder / "gt" / "gt.txt", delimiter=",")[:80, 2:6]
    boxes = np.hstack([table[:, :2], table[:, :2] + table[:, 2:]])
    height, width = image.shape[:2]
    expected = []
    for x0, y0, x1, y1 in whole_pixels(boxes, width, height).tolist():
        smaller = y1 - y0 >= 64 and x1 - x0 >= 64
        how = cv2.INTER_AREA if smaller else cv2.INTER_LINEAR
        expected.append(cv2.resize(image[y0:y1, x0:x1], (64, 64), interpolation=how))
    mean, _ = off(cut(image, boxes, (64, 64)), np.array(expected).transpose(0, 3, 1, 2))
    assert mean < 0.8


# --- exact cases


def test_a_box_of_the_crops_size_is_copied():
    crop = cut(IMAGE, np.array([[40.0, 60, 72, 124]]), (64, 32))[0]
    np.testing.assert_array_equal(crop, IMAGE[60:124, 40:72].transpose(2, 0, 1))


@pytest.mark.parametrize("factor", [2, 4])
def test_shrinking_by_whole_numbers_is_the_mean_of_blocks(factor):
    box = np.array([[8.0, 8, 8 + 16 * factor, 8 + 16 * factor]])
    block = IMAGE[8 : 8 + 16 * factor, 8 : 8 + 16 * factor].astype(float)
    expected = block.reshape(16, factor, 16, factor, 3).mean((1, 3)).transpose(2, 0, 1)
    assert np.abs(cut(IMAGE, box, (16, 16))[0] - expected).max() <= 1


@given(st.integers(0, 2**31))
def test_a_ramp_stays_a_ramp(seed):
    """Pixel j of a crop n wide of a box w wide has its middle at (j + 1/2) w / n."""
    ramp = np.broadcast_to(np.arange(250)[None, :, None], (100, 250, 3)).astype(np.uint8)
    rng = np.random.default_rng(seed)
    left, width = int(rng.integers(0, 80)), int(rng.integers(20, 160))
    box = np.array([[left, 10.0, left + width, 90]])
    crop = cut(ramp, box, (16, 20))[0].astype(float)
    expected = left + (np.arange(20) + 0.5) * width / 20 - 0.5
    assert np.abs(crop - expected)[..., 1:-1].max() <= 1


def test_a_flat_colour_stays_as_it_is():
    image = np.full((HEIGHT, WIDTH, 3), (3, 141, 59), np.uint8)
    crops = cut(image, random_boxes(1, 30), (16, 8))
    np.testing.assert_array_equal(crops, np.broadcast_to([[[3]], [[141]], [[59]]], crops.shape))


# --- laws


@given(st.integers(0, 2**31))
def test_a_box_is_cut_out_alone_as_among_others(seed):
    boxes = random_boxes(seed, 9)
    together = cut(IMAGE, boxes, (32, 16))
    for box, crop in zip(boxes, together, strict=True):
        np.testing.assert_array_equal(cut(IMAGE, box[None], (32, 16))[0], crop)


def test_more_boxes_than_one_map_holds():
    boxes = random_boxes(3, 700)
    order = np.random.default_rng(4).permutation(700)
    crops = cut(IMAGE, boxes, (64, 32))
    np.testing.assert_array_equal(cut(IMAGE, boxes[order], (64, 32)), crops[order])


@given(st.integers(0, 2**31))
def test_a_mirrored_image_gives_mirrored_crops(seed):
    boxes = np.round(random_boxes(seed, 6))
    mirrored = boxes.copy()
    mirrored[:, [0, 2]] = WIDTH - boxes[:, [2, 0]]
    crops = cut(np.ascontiguousarray(IMAGE[:, ::-1]), mirrored, (24, 24))
    mean, _ = off(crops[..., ::-1], cut(IMAGE, boxes, (24, 24)))
    assert mean < 0.5


@given(st.integers(0, 2**31))
def test_what_lies_outside_is_cut_off(seed):
    boxes = random_boxes(seed, 6) + np.array([150.0, 120, 150, 120])
    inside = boxes.clip(0, (WIDTH, HEIGHT, WIDTH, HEIGHT))
    np.testing.assert_array_equal(cut(IMAGE, boxes, (16, 16)), cut(IMAGE, inside, (16, 16)))


@pytest.mark.parametrize(
    ("box", "pixel"),
    [
        pytest.param((50, 60, 50, 60), (60, 50), id="no area"),
        pytest.param((50, 60, 50, 61), (60, 50), id="no width"),
        pytest.param((500, 60, 600, 61), (60, WIDTH - 1), id="right of the image"),
        pytest.param((-90, -90, -10, -10), (0, 0), id="above and left"),
        pytest.param((50, 60, 40, 55), (60, 50), id="upside down"),
        pytest.param((1e300, 0, 2e300, 1), (0, WIDTH - 1), id="very far"),
    ],
)
def test_a_box_without_pixels_is_the_nearest_one(box, pixel):
    crop = cut(IMAGE, np.array([box], dtype=float), (4, 4))[0]
    np.testing.assert_array_equal(crop, np.broadcast_to(IMAGE[pixel][:, None, None], (3, 4, 4)))


@pytest.mark.parametrize("boxes", [np.zeros((0, 4)), [], np.zeros(0)])
def test_no_boxes(boxes):
    crops = cut(IMAGE, boxes, (64, 32))
    assert crops.shape == (0, 3, 64, 32)
    assert crops.dtype == np.uint8


# --- bad input


@pytest.mark.parametrize(
    ("image", "message"),
    [
        pytest.param(IMAGE[..., 0], r"shape \(240, 320\), expected uint8", id="grey"),
        pytest.param(IMAGE[..., :1], r"shape \(240, 320, 1\)", id="one channel"),
        pytest.param(np.dstack([IMAGE, IMAGE])[..., :4], r"\(240, 320, 4\)", id="BGRA"),
        pytest.param(IMAGE / 255.0, "the image is float64", id="float"),
        pytest.param(IMAGE[:0], r"\(0, 320, 3\)", id="empty"),
        pytest.param(None, "the image is NoneType", id="none"),
        pytest.param(np.zeros((1, 40_000, 3), np.uint8), "up to 32766 pixels", id="too wide"),
    ],
)
def test_an_image_of_another_kind(image, message):
    with pytest.raises(InputError, match=message):
        cut(image, np.array([[1.0, 2, 3, 4]]), (8, 8))


@pytest.mark.parametrize(
    ("boxes", "size", "error", "message"),
    [
        (np.zeros((2, 5)), (8, 8), InputError, r"shape \(2, 5\), expected \(N, 4\)"),
        (np.zeros(4), (8, 8), InputError, r"shape \(4,\)"),
        ([[0, 0, 5, 5], [0, np.nan, 5, 5]], (8, 8), InputError, "box 1 is"),
        ([[0, 0, np.inf, 5]], (8, 8), InputError, "box 0 is"),
        ([[0, 0, 5, 5]], (0, 8), UsageError, "from 1 pixel"),
    ],
)
def test_boxes_and_sizes_that_mean_nothing(boxes, size, error, message):
    with pytest.raises(error, match=message):
        cut(IMAGE, boxes, size)
