"""Encoders that learn from pixels: what they learn from, how much they explain, who may not know.

Their recognition is a matter of the results; here a scene of drawn figures and a few steps do.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from reid.crops import cut
from reid.embedder import Embedder
from tools.cli import main
from tools.reid_eval.descriptors import open_encoder
from tools.reid_eval.evaluation import Options, score_sequence
from tools.reid_eval.pixels import (
    FromPixels,
    PixelOptions,
    labelled,
    learn_vae,
    pixel_variance,
    shape_of_metric,
    unlabelled,
)
from tools.reid_eval.sequences import cut_crops, queries_of, tracklets_of
from tools.reproduce import pixel_encoders
from tools.reproduce.experiment import Context, made_sequence
from tracker.io.sources import open_frames
from trackvae.errors import InputError, UsageError
from trackvae.residual import ResidualConfig, ResidualNetwork, save_residual
from training.cosine_softmax import CosineConfig

SIZE = (32, 32)
QUICK = PixelOptions(
    size=SIZE, latent=6, unexplained=0.85, steps=160, batch_size=12, learning_rate=3e-3
)


@pytest.fixture(scope="module")
def context(tmp_path_factory):
    folder = tmp_path_factory.mktemp("work")
    return Context(True, (0,), folder / "some", folder / "figures", Path("none"), lambda _: None)


@pytest.fixture(scope="module")
def scene(context):
    """A sequence of drawn figures. Not to be changed."""
    return open_frames(made_sequence(context))


@pytest.fixture(scope="module")
def crops(scene):
    return unlabelled([scene], SIZE)


@pytest.fixture(scope="module")
def learned(crops):
    return learn_vae(crops, QUICK)


def test_crops_are_those_of_their_frames(scene):
    boxes = queries_of(scene, stride=7, gap=20)
    shuffled = boxes.select(np.random.default_rng(0).permutation(len(boxes)))
    found = cut_crops(scene, shuffled, SIZE)
    for frame in scene:
        rows = np.flatnonzero(shuffled.frames == frame.index)
        if len(rows):
            np.testing.assert_array_equal(found[rows], cut(frame.image, shuffled.boxes[rows], SIZE))


def test_a_vae_learns_from_detections_alone(scene, crops):
    np.testing.assert_array_equal(crops, cut_crops(scene, tracklets_of(scene), SIZE))


def test_people_of_two_sequences_are_different_people(scene):
    crops, ids = labelled([scene, scene], SIZE)
    _, alone = labelled([scene], SIZE)
    assert len(crops) == len(ids) == 2 * len(alone)
    assert len(np.unique(ids)) == 2 * len(np.unique(alone))


def test_the_variance_is_numpys():
    crops = np.random.default_rng(0).integers(0, 256, (700, 3, 4, 5)).astype(np.uint8)
    assert pixel_variance(crops) == pytest.approx((crops / 255).var(axis=0).mean())


def test_kappa_is_a_share_of_the_variance_and_is_met(learned, crops):
    made = learned.made
    assert made["kappa2"] == pytest.approx(0.85 * pixel_variance(crops))
    assert made["kappa_met_at"] is not None
    x = torch.from_numpy(crops).float() / 255
    with torch.no_grad():
        found = learned.model.decode(learned.model.encode(x).mean)
    assert float((found - x).square().mean()) < 1.2 * made["kappa2"]


def test_flatness_lowers_the_penalty_that_it_weighs(learned, crops):
    """The absolute one, ``D_z c^4`` times the relative: it may be met by a smaller c^2 too."""
    flat = learn_vae(crops, replace(QUICK, eta=3000.0))
    plain, other = (shape_of_metric(one, crops[:8]) for one in (learned, flat))
    assert other["flatness"] * other["c2"] ** 2 < 0.1 * plain["flatness"] * plain["c2"] ** 2
    assert min(plain["condition"], other["condition"]) > 1


def test_names_say_what_is_trained():
    plain, flat, flatter, labels = (
        open_encoder(name, 3) for name in ("vhp-vae", "vhp-fmvae", "vhp-fmvae:3000", "supervised")
    )
    assert [one.options.eta for one in (plain, flat, flatter)] == [0, 300, 3000]
    assert labels.options == CosineConfig(seed=3)
    assert labels.supervised
    assert not plain.supervised
    for wrong in ("vhp-fmvae:0", "vhp-fmvae:much", "vhp-vae:300", "supervised:x", "pca:vhp-vae"):
        with pytest.raises(UsageError):
            open_encoder(wrong)


def test_nobody_is_told_who_is_asked_for(scene):
    with pytest.raises(UsageError, match="would be told those that it is asked for"):
        score_sequence(scene.path, open_encoder("supervised"), Options(gap=20))
    told = Options(fit=(str(scene.path),), gap=20)
    with pytest.raises(UsageError, match="which is the one that is scored"):
        score_sequence(scene.path, open_encoder("supervised"), told)


def test_is_scored_where_it_was_learned(scene):
    encoder = FromPixels("vhp-vae", replace(QUICK, steps=5))
    found = score_sequence(scene.path, encoder, Options(gap=20))
    assert found.made["fit"]["crops"] == len(tracklets_of(scene))
    assert found.made["dim"] == QUICK.latent
    assert 0 < found.scores.mAP <= 100


def test_too_little_to_learn_from(crops):
    with pytest.raises(InputError, match="5 crops to learn from"):
        learn_vae(crops[:5], QUICK)
    with pytest.raises(InputError, match="all crops are the same"):
        learn_vae(np.repeat(crops[:1], 20, axis=0), QUICK)
    with pytest.raises(UsageError, match="unexplained"):
        PixelOptions(unexplained=1.0)


def test_the_supervised_descriptor_is_an_encoder_as_others_are(scene, tmp_path, capsys):
    torch.manual_seed(0)
    network = ResidualNetwork(ResidualConfig(size=(32, 16), widths=(4, 4, 4), dim=6)).eval()
    path = tmp_path / "descriptor.safetensors"
    save_residual(path, network)
    embed = Embedder(path)
    assert (embed.dim, embed.size) == (6, (32, 16))
    image = next(iter(scene)).image
    boxes = tracklets_of(scene).boxes[:3]
    features, variance = embed.encode(image, boxes)
    with torch.no_grad():
        expected = network(torch.from_numpy(cut(image, boxes, (32, 16)) / np.float32(255)))
    np.testing.assert_allclose(features, expected, atol=1e-5)
    assert not variance.any()
    flags = ["--encoder", str(path), "--gap", "20", "--json", str(tmp_path / "scores.json")]
    assert main(["reid-eval", str(scene.path), *flags]) == 0
    assert json.loads((tmp_path / "scores.json").read_text())["dim"] == 6
    with pytest.raises(UsageError, match="has one form"):
        Embedder(path, precision="bfloat16")


class TestForExperiments:
    def test_no_identity_of_the_video_itself_is_learned(self, tmp_path):
        for video in pixel_encoders.VIDEOS:
            (tmp_path / "mot" / video).mkdir(parents=True)
        real = Context(False, (0,), tmp_path / "work" / "one", tmp_path, tmp_path)
        for video in pixel_encoders.VIDEOS:
            others = pixel_encoders.settings_of(real, pixel_encoders.SUPERVISED, video, 0)["from"]
            assert sorted([*others, video]) == sorted(pixel_encoders.VIDEOS)
            for name in pixel_encoders.VAES:
                assert pixel_encoders.settings_of(real, name, video, 0)["from"] == [video]

    def test_is_trained_once_for_all_experiments(self, context):
        said = []
        first, second = (
            Context(True, (0,), context.work.parent / name, Path(), Path("none"), said.append)
            for name in ("one", "two")
        )
        found = pixel_encoders.trained(first, "vhp-fmvae-300", "made", 0)
        again = pixel_encoders.trained(second, "vhp-fmvae-300", "made", 0)
        assert said == ["vhp-fmvae-300-made-0 ...", "vhp-fmvae-300-made-0: done before"]
        assert found.made == again.made
        assert found.made["condition"] >= 1
        crops = np.random.default_rng(0).integers(0, 256, (2, 3, *found.embedder.size))
        for one, other in zip(
            found.embedder.encode_crops(crops.astype(np.uint8)),
            again.embedder.encode_crops(crops.astype(np.uint8)),
            strict=True,
        ):
            np.testing.assert_array_equal(one, other)
