"""The camera's motion: known motions of a texture come back."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tracker.camera_motion import CameraMotion
from trackvae.errors import InputError, UsageError

WIDTH, HEIGHT = 400, 300
TOLERANCE = 0.2  # pixels, at the corners
MARGIN = 100


def texture(seed: int, width: int, height: int) -> np.ndarray:
    """Blobs of several sizes, as a scene has."""
    rng = np.random.default_rng(seed)
    image = np.zeros((height, width), dtype=np.float32)
    for sigma in (1.5, 4, 12):
        layer = cv2.GaussianBlur(rng.normal(size=(height, width)).astype(np.float32), (0, 0), sigma)
        image += layer / layer.std()
    grey = np.clip(128 + 35 * image, 0, 255).astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=2)


WORLD = texture(0, WIDTH + 2 * MARGIN, HEIGHT + 2 * MARGIN)


def similarity(
    angle: float, zoom: float, dx: float, dy: float, size: tuple[int, int]
) -> np.ndarray:
    """About the image's centre, then shifted; in box coordinates."""
    cos, sin = zoom * np.cos(np.radians(angle)), zoom * np.sin(np.radians(angle))
    linear = np.array([[cos, -sin], [sin, cos]])
    centre = np.array(size) / 2
    return np.column_stack([linear, centre - linear @ centre + [dx, dy]])


def view(motion: np.ndarray | None = None, size: tuple[int, int] = (WIDTH, HEIGHT)) -> np.ndarray:
    """What the camera sees of the world after a motion in box coordinates (none: before)."""
    motion = np.eye(2, 3) if motion is None else motion
    # World pixel u has its centre at u + 1/2 - MARGIN in box coordinates of the first view.
    linear = motion[:, :2]
    shift = linear @ np.full(2, 0.5 - MARGIN) + motion[:, 2] - 0.5
    return cv2.warpAffine(WORLD, np.column_stack([linear, shift]), size, flags=cv2.INTER_CUBIC)


def corner_error(found: np.ndarray, truth: np.ndarray) -> float:
    corners = np.array([[0, 0, 1], [WIDTH, 0, 1], [0, HEIGHT, 1], [WIDTH, HEIGHT, 1]], dtype=float)
    return float(np.linalg.norm(corners @ (found - truth).T, axis=1).max())


def measured(method: str, truth: np.ndarray, **options: float) -> np.ndarray:
    camera = CameraMotion(method, **options)
    camera.estimate(view())
    found = camera.estimate(view(truth))
    assert camera.quality.ok, camera.quality
    assert found.shape == (2, 3)
    assert found.dtype == np.float64
    return found


@pytest.mark.parametrize("method", ["flow", "ecc"])
@pytest.mark.parametrize(
    ("angle", "dx", "dy"),
    [(0, 0, 0), (0, 3.4, -2.7), (0, -12, 9), (1.5, 0, 0), (-0.4, 5.2, 1.1)],
)
def test_shift_and_rotation_come_back(method: str, angle: float, dx: float, dy: float) -> None:
    truth = similarity(angle, 1, dx, dy, (WIDTH, HEIGHT))
    assert corner_error(measured(method, truth), truth) < TOLERANCE


@settings(max_examples=15, deadline=None)
@given(st.floats(-3, 3), st.floats(0.96, 1.04), st.floats(-15, 15), st.floats(-15, 15))
def test_flow_finds_any_similarity(angle: float, zoom: float, dx: float, dy: float) -> None:
    truth = similarity(angle, zoom, dx, dy, (WIDTH, HEIGHT))
    assert corner_error(measured("flow", truth), truth) < TOLERANCE


@pytest.mark.parametrize("method", ["flow", "ecc"])
def test_downscaling_keeps_full_size_coordinates(method: str) -> None:
    truth = similarity(0.5, 1, 6, -4, (WIDTH, HEIGHT))
    # 400 x 300 by 1.7 is 235 x 176: the two scales differ, and neither is 1.7.
    assert corner_error(measured(method, truth, downscale=1.7), truth) < 2 * TOLERANCE


@pytest.mark.parametrize("method", ["flow", "ecc"])
def test_there_and_back_compose_to_identity(method: str) -> None:
    truth = similarity(0.8, 1, 4, 3, (WIDTH, HEIGHT))
    camera = CameraMotion(method)
    camera.estimate(view())
    there, back = camera.estimate(view(truth)), camera.estimate(view())
    whole = np.vstack([back, [0, 0, 1]]) @ np.vstack([there, [0, 0, 1]])
    assert corner_error(whole[:2], np.eye(2, 3)) < 2 * TOLERANCE


def crowd(motion: np.ndarray | None, shift: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """The view with a large textured object in it, and its box."""
    image = view(motion)
    x, y = 90 + shift[0], 20 + shift[1]
    image[y : y + 260, x : x + 240] = texture(7, 240, 260)
    return image, np.array([[x, y, x + 240.0, y + 260]])


@pytest.mark.parametrize("method", ["flow", "ecc"])
def test_moving_objects_are_masked(method: str) -> None:
    # The object fills half of the image and moves against the camera.
    truth = similarity(0, 1, 3, -2, (WIDTH, HEIGHT))
    before, after = crowd(None, (0, 0)), crowd(truth, (-10, 6))
    camera = CameraMotion(method)
    camera.estimate(*before)
    assert corner_error(camera.estimate(*after), truth) < TOLERANCE
    # Without the boxes the object pulls the estimate: the mask is what helps.
    blind = CameraMotion(method)
    blind.estimate(before[0])
    assert corner_error(blind.estimate(after[0]), truth) > 2 * TOLERANCE


@pytest.mark.parametrize("method", ["flow", "ecc", "none"])
def test_first_frame_blank_frame_and_new_size_are_identity(method: str) -> None:
    camera = CameraMotion(method)
    blank = np.full((HEIGHT, WIDTH, 3), 80, dtype=np.uint8)
    small = view(size=(200, 160))
    for image in (view(), blank, blank, small):
        np.testing.assert_array_equal(camera.estimate(image), np.eye(2, 3))
    if method != "none":
        assert camera.quality.reason == "first frame"
        camera.estimate(small)
        assert camera.quality.ok
        assert not camera.quality.reason
        camera.estimate(np.zeros_like(small))
        assert not camera.quality.ok
        assert camera.quality.reason == "the image is blank"


@pytest.mark.parametrize("method", ["flow", "ecc"])
def test_reset_forgets_the_last_frame(method: str) -> None:
    camera = CameraMotion(method)
    camera.estimate(view())
    camera.reset()
    moved = view(similarity(0, 1, 5, 5, (WIDTH, HEIGHT)))
    np.testing.assert_array_equal(camera.estimate(moved), np.eye(2, 3))


@pytest.mark.parametrize("method", ["flow", "ecc"])
def test_a_cut_and_a_full_mask_are_failures_not_motions(method: str) -> None:
    camera = CameraMotion(method)
    camera.estimate(view())
    np.testing.assert_array_equal(camera.estimate(texture(9, WIDTH, HEIGHT)), np.eye(2, 3))
    assert not camera.quality.ok
    everything = np.array([[-10.0, -10, 1000, 1000]])
    camera.reset()
    camera.estimate(view(), everything)
    moved = view(similarity(0, 1, 5, 5, (WIDTH, HEIGHT)))
    np.testing.assert_array_equal(camera.estimate(moved, everything), np.eye(2, 3))
    assert not camera.quality.ok
    assert camera.quality.reason


def test_tiny_images_and_odd_boxes_do_not_raise() -> None:
    boxes = np.array([[5.0, 5, 5, 5], [-9, -9, -1, -1], [1e9, 1e9, 2e9, 2e9]])
    for method in ("flow", "ecc"):
        camera = CameraMotion(method)
        for seed in range(3):
            image = np.random.default_rng(seed).integers(0, 255, (3, 5, 3)).astype(np.uint8)
            np.testing.assert_array_equal(camera.estimate(image, boxes), np.eye(2, 3))


def test_the_same_frames_give_the_same_motion() -> None:
    truth = similarity(1, 1.01, 7, -3, (WIDTH, HEIGHT))
    np.testing.assert_array_equal(measured("flow", truth), measured("flow", truth))


def test_wrong_use_is_named() -> None:
    with pytest.raises(UsageError, match="no camera motion 'orb'; there are flow, ecc, none"):
        CameraMotion("orb")
    with pytest.raises(UsageError, match=r"downscale is 0\.5"):
        CameraMotion("flow", 0.5)
    with pytest.raises(InputError, match="float64"):
        CameraMotion().estimate(np.zeros((4, 4, 3)))  # type: ignore[arg-type]
