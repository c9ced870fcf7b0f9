"""The encoder of an appearance model: what it leaves out changes nothing."""

import numpy as np
import pytest

from reid.appearance import AppearanceEncoder
from reid.descriptors import by_name
from trackvae.appearance import AppearanceModel
from trackvae.errors import InputError

FEATURES = "colour-stripes-hsv"


def a_model(features: str = FEATURES, length: int | None = None) -> AppearanceModel:
    """Of features of which two in three never varied, as most colours never occur."""
    rng = np.random.default_rng(0)
    count = length or by_name(FEATURES).dim
    matrix = rng.standard_normal((count, 16)).astype(np.float32)
    matrix[rng.random(count) < 2 / 3] = 0
    layers = ((rng.standard_normal((16, 12)).astype(np.float32), np.ones(12, np.float32)),)
    return AppearanceModel(features, rng.random(count).astype(np.float32), matrix, layers)


def test_features_that_never_varied_are_left_out_and_nothing_changes():
    image = np.random.default_rng(1).integers(0, 256, (90, 120, 3)).astype(np.uint8)
    boxes = np.array([[5.0, 5.0, 40.0, 80.0], [50.0, 10.0, 110.0, 85.0]])
    model = a_model()
    found = AppearanceEncoder(model).encode(image, boxes)
    for part, expected in zip(found, model.posterior(by_name(FEATURES)(image, boxes)), strict=True):
        np.testing.assert_allclose(part, expected, atol=1e-6, rtol=1e-5)


def test_crops_are_embedded_as_boxes_that_fill_their_image():
    crops = np.random.default_rng(2).integers(0, 256, (3, 3, 64, 32)).astype(np.uint8)
    encoder = AppearanceEncoder(a_model())
    mean, _ = encoder.encode_crops(crops)
    for crop, one in zip(crops, mean, strict=True):
        image = np.ascontiguousarray(crop.transpose(1, 2, 0))
        alone, _ = encoder.encode(image, np.array([[0.0, 0.0, 32.0, 64.0]]))
        np.testing.assert_allclose(alone[0], one, atol=1e-5)


def test_a_model_of_other_features_is_refused():
    with pytest.raises(InputError, match="features of a newer trackvae: no descriptor 'hues'"):
        AppearanceEncoder(a_model("hues"))
    with pytest.raises(InputError, match="has 512 numbers here, the encoder expects 511"):
        AppearanceEncoder(a_model(length=511))
