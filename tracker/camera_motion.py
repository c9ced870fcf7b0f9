"""How the camera moved between two frames, as an affine of pixel coordinates.

Camera-motion compensation of BoT-SORT (Aharon et al. 2022, section 3.2): the background's motion
is found by sparse optical flow and a robust similarity, or by maximising the enhanced correlation
coefficient (Evangelidis and Psarakis 2008). What a tracker does with it lives with its filter.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import cv2
import numpy as np

from tracker.boxes import clip
from trackvae.arrays import FloatArray, Image
from trackvae.errors import InputError, UsageError

METHODS: Final = ("flow", "ecc", "none")
# Long side of the image that is analysed, in pixels. 1080p, one thread: flow 16 ms, ECC 7 ms,
# corners within 0.15 px; at 960 and 480 pixels 40 and 19 ms, within 0.07.
_LONG_SIDE: Final = {"flow": 640, "ecc": 384, "none": 1}

_FEATURES: Final[dict[str, Any]] = {
    "maxCorners": 600,
    "qualityLevel": 0.01,
    "minDistance": 7,
    "blockSize": 3,
}
_FLOW: Final[dict[str, Any]] = {"winSize": (21, 21), "maxLevel": 4}
_RANSAC: Final[dict[str, Any]] = {
    "ransacReprojThreshold": 1.0,
    "maxIters": 500,
    "confidence": 0.995,
}
_MIN_POINTS: Final = 12  # a similarity needs 2; with fewer than a dozen chance fits too well
_MIN_INLIERS: Final = 0.25
_ECC_STEPS: Final = 50
_ECC_EPSILON: Final = 1e-5
_MIN_CORRELATION: Final = 0.5
_MIN_CONTRAST: Final = 2.0  # standard deviation in grey levels; below, the image is blank
# A step of the camera that no video holds: half of the image's size, 30 degrees, a zoom by 1.5.
_MAX_SHIFT: Final = 0.5
_MAX_ANGLE: Final = np.pi / 6
_MAX_ZOOM: Final = 1.5


@dataclass(frozen=True, slots=True)
class MotionQuality:
    """Whether the last estimate can be trusted, and why not.

    Attributes:
        ok: False where the identity stands for an estimate that failed.
        reason: why it failed, or ``first frame``; empty where it did not.
        points: background points that were followed (flow).
        score: share of them that move with the camera (flow), or the correlation (ecc); in [0, 1].
    """

    ok: bool
    reason: str = ""
    points: int = 0
    score: float = 0.0


class CameraMotion:
    """Estimates the camera's motion frame by frame; holds one small grey image between calls.

    Attributes:
        quality: of the last estimate.
    """

    def __init__(self, method: str = "flow", downscale: float | None = None) -> None:
        """Choose how.

        Args:
            method: ``flow`` (shift, rotation and zoom), ``ecc`` (shift and rotation; slower, but
                works where there are no corners), or ``none`` (always the identity).
            downscale: image size over analysed size, at least 1. None: what brings the long side
                to 640 pixels (flow) or 384 (ecc), and 1 for smaller images.

        Raises:
            UsageError: an unknown method, or a downscale below 1.
        """
        if method not in METHODS:
            raise UsageError(f"no camera motion {method!r}; there are {', '.join(METHODS)}")
        if downscale is not None and not 1 <= downscale < np.inf:
            raise UsageError(f"downscale is {downscale}, expected 1 or more")
        self.method, self.downscale = method, downscale
        self.reset()

    def reset(self) -> None:
        """Forget the last frame: the next one starts another video."""
        self._size: tuple[int, ...] = ()
        self._grey: Image | None = None
        self._background: Image | None = None
        self.quality = MotionQuality(True, "first frame")

    def estimate(self, image: Image, boxes: FloatArray | None = None) -> FloatArray:
        """The motion from the previous frame to this one.

        A point of the background at ``(x, y)`` in the previous frame is at
        ``A @ (x, y, 1)`` in this one. Box coordinates are taken, in which the first pixel covers
        ``[0, 1)``.

        Args:
            image: ``(H, W, 3)`` uint8 BGR.
            boxes: ``(N, 4)`` xyxy of what may move by itself, left out of the estimate.

        Returns:
            ``(2, 3)`` float64; the identity on the first frame, after a change of the image's
            size, and where nothing can be found: see :attr:`quality`.

        Raises:
            InputError: the image is not uint8 with 1 or 3 channels.
        """
        if self.method == "none":
            self.quality = MotionQuality(True)
            return identity()
        grey, scale = self._shrink(image)
        background = _background_mask(grey, boxes, scale)
        last, last_background = self._grey, self._background
        if self._size != image.shape[:2]:
            last = None
        self._size, self._grey, self._background = image.shape[:2], grey, background
        if last is None or last_background is None:
            self.quality = MotionQuality(True, "first frame")
            return identity()
        if min(last.std(), grey.std()) < _MIN_CONTRAST:
            self.quality = MotionQuality(False, "the image is blank")
            return identity()
        find = _by_flow if self.method == "flow" else _by_ecc
        small, self.quality = find(last, grey, last_background, background)
        if not self.quality.ok:
            return identity()
        found = _full_size(small, scale)
        if not _plausible(found, image.shape[1], image.shape[0]):
            self.quality = MotionQuality(
                False, "no camera moves so far", self.quality.points, self.quality.score
            )
            return identity()
        return found

    def _shrink(self, image: Image) -> tuple[Image, FloatArray]:
        """The grey image to be analysed, and original over analysed size ``(x, y)``."""
        if image.dtype != np.uint8 or image.ndim not in (2, 3) or not image.size:
            raise InputError(
                f"camera motion: the image is {image.dtype} of shape {image.shape}, "
                "expected uint8 (H, W, 3)"
            )
        grey: Any = image if image.ndim == 2 else cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
        height, width = grey.shape
        factor = self.downscale or max(1.0, max(height, width) / _LONG_SIDE[self.method])
        size = max(1, round(width / factor)), max(1, round(height / factor))
        if size != (width, height):
            grey = cv2.resize(grey, size, interpolation=cv2.INTER_AREA)
        return grey, np.array([width / size[0], height / size[1]])


def identity() -> FloatArray:
    """The camera stands still: ``(2, 3)`` float64."""
    return np.eye(2, 3, dtype=np.float64)


def _background_mask(grey: Image, boxes: FloatArray | None, scale: FloatArray) -> Image:
    """255 where no box lies, 0 elsewhere; the analysed image's size."""
    mask = np.full(grey.shape, 255, dtype=np.uint8)
    if boxes is None or not len(boxes):
        return mask
    boxes = np.asarray(boxes, dtype=np.float64)[:, :4] / np.tile(scale, 2)
    small = clip(boxes, grey.shape[1], grey.shape[0])
    corners = np.concatenate([np.floor(small[:, :2]), np.ceil(small[:, 2:])], axis=1)
    # 0.05 / 0.17 / 0.37 ms for 10 / 100 / 300 boxes; a summed difference image takes 8.
    for left, top, right, bottom in corners.astype(np.int64).tolist():
        mask[top:bottom, left:right] = 0
    return mask


def _by_flow(
    last: Image, grey: Image, last_mask: Image, mask: Image
) -> tuple[FloatArray, MotionQuality]:
    """Similarity of the background's corners, followed by pyramidal Lucas-Kanade.

    Corners are sought in the previous frame outside its boxes; those that land in a box of this
    frame are dropped, and RANSAC leaves out what else moves by itself.
    """
    corners = cv2.goodFeaturesToTrack(last, mask=last_mask, **_FEATURES)
    if corners is None or len(corners) < _MIN_POINTS:
        found = 0 if corners is None else len(corners)
        return identity(), MotionQuality(False, "too few corners in the background", found)
    start = np.asarray(corners, dtype=np.float32).reshape(-1, 1, 2)
    nowhere: Any = None  # no first guess
    moved, followed, _ = cv2.calcOpticalFlowPyrLK(last, grey, start, nowhere, **_FLOW)
    begin, end = start.reshape(-1, 2), np.asarray(moved).reshape(-1, 2)
    height, width = grey.shape
    keep = np.asarray(followed).ravel() == 1
    keep &= (end >= 0).all(axis=1) & (end[:, 0] <= width - 1) & (end[:, 1] <= height - 1)
    at = np.clip(np.rint(end), 0, (width - 1, height - 1)).astype(np.int64)
    keep &= mask[at[:, 1], at[:, 0]] > 0
    count = int(keep.sum())
    if count < _MIN_POINTS:
        return identity(), MotionQuality(False, "too few corners could be followed", count)
    cv2.setRNGSeed(0)  # RANSAC draws from OpenCV's own generator: the same frames, the same motion
    affine, inliers = cv2.estimateAffinePartial2D(
        begin[keep], end[keep], method=cv2.RANSAC, **_RANSAC
    )
    share = 0.0 if inliers is None else float(np.mean(inliers))
    if affine is None or not np.isfinite(affine).all() or share < _MIN_INLIERS:
        return identity(), MotionQuality(False, "the corners agree on no motion", count, share)
    return np.asarray(affine, dtype=np.float64), MotionQuality(True, "", count, share)


def _by_ecc(
    last: Image, grey: Image, last_mask: Image, mask: Image
) -> tuple[FloatArray, MotionQuality]:
    """Shift and rotation that maximise the enhanced correlation coefficient of the backgrounds."""
    criteria = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, _ECC_STEPS, _ECC_EPSILON)
    # The template's own boxes cannot be masked by OpenCV: both masks' intersection is, which is
    # right to within the motion of one frame.
    both: Any = cv2.bitwise_and(last_mask, mask)
    try:
        score, warp = cv2.findTransformECC(
            last, grey, np.eye(2, 3, dtype=np.float32), cv2.MOTION_EUCLIDEAN, criteria, both, 5
        )
    except cv2.error:  # it does not converge, or the images do not overlap
        return identity(), MotionQuality(False, "the correlation does not converge")
    if not np.isfinite(warp).all() or not score >= _MIN_CORRELATION:
        return identity(), MotionQuality(False, "the images do not correlate", 0, float(score))
    return np.asarray(warp, dtype=np.float64), MotionQuality(True, "", 0, float(score))


def _full_size(small: FloatArray, scale: FloatArray) -> FloatArray:
    """An affine between centres of small pixels as one between positions in the full image.

    A small pixel's centre u lies at ``s (u + 1/2)`` in box coordinates of the full image, so that
    ``A' = S A S⁻¹`` and ``b' = S (A (-1/2) + b + 1/2)``, S = diag(s).
    """
    linear, shift = small[:, :2], small[:, 2]
    half = np.full(2, 0.5)
    full = np.empty((2, 3), dtype=np.float64)
    full[:, :2] = scale[:, None] * linear / scale
    full[:, 2] = scale * (shift + half - linear @ half)
    return full


def _plausible(affine: FloatArray, width: int, height: int) -> bool:
    """Whether the image's centre moves, turns and grows as a camera can within a frame."""
    centre = np.array([width, height]) / 2
    shift = np.abs(affine[:, :2] @ centre + affine[:, 2] - centre)
    zoom = np.sqrt(abs(np.linalg.det(affine[:, :2])))
    angle = abs(np.arctan2(affine[1, 0], affine[0, 0]))
    near = bool((shift <= _MAX_SHIFT * 2 * centre).all())
    return near and bool(angle <= _MAX_ANGLE) and bool(1 / _MAX_ZOOM <= zoom <= _MAX_ZOOM)
