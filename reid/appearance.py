"""An appearance model as an encoder: the features of a frame's boxes, then q(z|x)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from reid.crops import check_image, checked_boxes
from reid.descriptors import by_name
from trackvae.appearance import AppearanceModel
from trackvae.arrays import FloatArray, Image
from trackvae.errors import InputError, UsageError


class AppearanceEncoder:
    """Boxes of a frame to mean and variance of q(z|x), without torch."""

    size = (128, 64)  # a crop's height and width that loses next to nothing; it takes any

    def __init__(self, model: AppearanceModel) -> None:
        """Take a model.

        Raises:
            InputError: its features are unknown here, or of another length.
        """
        try:
            self._descriptor = by_name(model.features)
        except UsageError as error:
            raise InputError(
                f"the encoder looks at features of a newer trackvae: {error}"
            ) from error
        if self._descriptor.dim != model.feature_dim:
            raise InputError(
                f"{model.features} has {self._descriptor.dim} numbers here, the encoder expects "
                f"{model.feature_dim}"
            )
        # Colours that never occurred say nothing: half of the default's features. 50 boxes take
        # 8 ms to whiten against 15.
        self._used = np.flatnonzero(model.matrix.any(axis=1))
        matrix = model.matrix[self._used]
        self._model = replace(model, mean=model.mean[self._used], matrix=matrix)

    @property
    def dim(self) -> int:
        """D_z."""
        return self._model.dim

    def encode(self, image: Image, boxes: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Mean and variance for boxes (N, 4) of an image, ``(N, dim)`` float32 both."""
        check_image(image)
        return self._posterior(image, checked_boxes(boxes))

    def encode_crops(self, crops: Image) -> tuple[FloatArray, FloatArray]:
        """The same for crops ``(N, 3, H, W)`` uint8, one below the other in one image."""
        if crops.dtype != np.uint8 or crops.ndim != 4 or crops.shape[1] != 3:
            raise InputError(
                f"crops are {crops.dtype} of shape {crops.shape}, expected uint8 (N, 3, H, W)"
            )
        count, _, height, width = crops.shape
        sheet = np.ascontiguousarray(crops.transpose(0, 2, 3, 1)).reshape(-1, width, 3)
        top = height * np.arange(count, dtype=np.float64)
        boxes = np.stack([0 * top, top, 0 * top + width, top + height], axis=1)
        return self._posterior(sheet, boxes)

    def _posterior(self, image: Image, boxes: FloatArray) -> tuple[FloatArray, FloatArray]:
        return self._model.posterior(self._descriptor(image, boxes)[:, self._used])
