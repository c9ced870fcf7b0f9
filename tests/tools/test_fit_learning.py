"""Learning from tracklets: what joining finds, what is forgotten, that a seed says it all."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from reid.embedder import Embedder
from reid.metrics import score_retrieval, within_video
from tools.fit.learning import LearnOptions, Observed, join, learn, linear_encoder
from trackvae.appearance import AppearanceModel, read_appearance_model
from trackvae.errors import InputError, UsageError

PEOPLE, FRAMES, F = 6, 160, 40
OPTIONS = LearnOptions(
    features="colour-stripes-hsv", whitened=16, latent=8, hidden=(32,), steps=300, batch_size=64
)


@pytest.fixture(scope="module")
def seen() -> tuple[Observed, np.ndarray]:
    """People who stand apart from each other, are hidden for a while, and how a pose changes them.

    Who they are shows in a few features; pose, which varies within a tracklet, in louder ones.
    """
    rng = np.random.default_rng(0)
    identity = rng.normal(size=(PEOPLE, F)) * (np.arange(F) < 8)
    loud = rng.normal(size=(3, F)) * 4 / np.sqrt(F)
    frames, boxes, ids, who, features = [], [], [], [], []
    for person in range(PEOPLE):
        for part, span in enumerate((range(1, 61), range(101, FRAMES + 1))):
            pose = rng.normal(size=(len(span), 3))
            features.append(identity[person] + pose @ loud + 0.2 * rng.normal(size=(len(span), F)))
            frames.append(np.array(span))
            left = 100.0 * person + np.zeros(len(span))
            boxes.append(np.stack([left, 0 * left, left + 30, 0 * left + 80], axis=1))
            ids.append(np.full(len(span), 2 * person + part))
            who.append(np.full(len(span), person))
    made = [np.concatenate(each) for each in (frames, boxes, ids, features)]
    observed = Observed("made", made[0], made[1], made[2], made[3].astype(np.float32))
    return observed, np.concatenate(who)


def recognised(vectors: np.ndarray, observed: Observed, who: np.ndarray) -> float:
    """The mAP of queries that meet frames at least 40 away."""
    far = within_video(observed.frames, 40)
    return score_retrieval(vectors, vectors, who, who, far, metric="cosine").mAP


def test_both_halves_of_a_way_are_joined_and_nobody_else(seen):
    observed, who = seen
    objects = join([observed], OPTIONS)
    pairs = {(int(a), int(b)) for a, b in zip(objects.ids, who, strict=True)}
    assert len(pairs) == len({a for a, _ in pairs}) == PEOPLE


def test_the_encoder_forgets_pose(seen):
    observed, who = seen
    learned = learn([observed], OPTIONS)
    raw = recognised(observed.features, observed, who)
    found = recognised(learned.encoder.posterior(observed.features)[0], observed, who)
    assert raw < 50
    assert found > 90
    assert learned.made["objects"] == PEOPLE


def test_the_linear_encoder_is_the_whitening(seen):
    observed, _ = seen
    objects = join([observed], OPTIONS)
    encoder = linear_encoder(objects.projection, OPTIONS)
    mean, variance = encoder.posterior(observed.features)
    np.testing.assert_allclose(
        mean, objects.projection.apply(observed.features), rtol=1e-4, atol=1e-4
    )
    np.testing.assert_allclose(variance, 1, rtol=1e-3)


def test_encoder_and_model_say_the_same(seen):
    import torch

    observed, _ = seen
    learned = learn([observed], replace(OPTIONS, steps=20))
    whitened = torch.from_numpy(learned.encoder.whiten(observed.features[:9]))
    q = learned.model.encode(whitened)
    mean, variance = learned.encoder.posterior(observed.features[:9])
    np.testing.assert_allclose(mean, q.mean.detach().numpy(), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(variance, q.log_var.exp().detach().numpy(), rtol=1e-3)


def test_a_seed_says_it_all(seen):
    observed, _ = seen
    short = replace(OPTIONS, steps=20)
    weights = [
        learn([observed], replace(short, seed=seed)).encoder.layers[0][0] for seed in (3, 3, 4)
    ]
    np.testing.assert_array_equal(weights[0], weights[1])
    assert not np.array_equal(weights[0], weights[2])


def test_two_videos_keep_their_people_apart(seen):
    observed, who = seen
    objects = join([observed, replace_name(observed, "again")], OPTIONS)
    first, second = np.split(objects.ids, 2)
    assert not set(first.tolist()) & set(second.tolist())
    assert len(np.unique(first)) == len(np.unique(who))


def replace_name(observed: Observed, name: str) -> Observed:
    """The same crops under another name."""
    return Observed(name, observed.frames, observed.boxes, observed.ids, observed.features)


@pytest.mark.parametrize(
    ("change", "said"),
    [({"whitened": 0}, "whitened is 0"), ({"slack": 0.0}, "slack"), ({"eta": -1.0}, "eta")],
)
def test_options_that_mean_nothing(change, said):
    with pytest.raises(UsageError, match=said):
        LearnOptions(**change)


def test_nothing_to_learn_from(seen):
    observed, _ = seen
    lone = Observed("lone", *(each[:3] for each in (observed.frames, observed.boxes)),
                    np.arange(3), observed.features[:3])  # fmt: skip
    with pytest.raises(InputError, match="too short to learn"):
        join([lone], OPTIONS)
    with pytest.raises(UsageError, match="no video"):
        join([], OPTIONS)


class TestEmbedder:
    """The learned encoder behind :class:`reid.embedder.Embedder`."""

    @pytest.fixture
    def model(self) -> AppearanceModel:
        rng = np.random.default_rng(1)
        return AppearanceModel(
            "colour-stripes-hsv",
            rng.random(512).astype(np.float32) * 0.02,
            rng.normal(size=(512, 6)).astype(np.float32),
            ((rng.normal(size=(6, 10)).astype(np.float32), np.zeros(10, np.float32)),),
        )

    @pytest.fixture
    def frame(self) -> np.ndarray:
        return np.random.default_rng(2).integers(0, 256, (90, 120, 3), dtype=np.uint8)

    def test_gives_unit_vectors_and_variances(self, model, frame, tmp_path):
        boxes = np.array([[3.0, 4, 40, 80], [50, 10, 90, 70], [-9, -9, 20, 20]])
        model.save(tmp_path / "encoder.safetensors")
        embed = Embedder(tmp_path / "encoder.safetensors")
        found = embed(frame, boxes)
        assert found.shape == (3, embed.dim) == (3, 5)
        np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, rtol=1e-5)
        mean, variance = embed.encode(frame, boxes)
        assert (variance > 0).all()
        assert not np.allclose(np.linalg.norm(mean, axis=1), 1)
        assert embed(frame, np.zeros((0, 4))).shape == (0, 5)

    def test_a_crop_is_a_box(self, model, frame):
        embed = Embedder(model)
        boxes = np.array([[0.0, 0, 32, 64], [40, 16, 72, 80]])
        crops = np.stack([frame[0:64, 0:32], frame[16:80, 40:72]]).transpose(0, 3, 1, 2)
        np.testing.assert_allclose(embed.embed_crops(crops), embed(frame, boxes), atol=1e-5)

    def test_refuses_what_it_has_not(self, model, tmp_path):
        with pytest.raises(UsageError, match="leave out backend"):
            Embedder(model, backend="onnx")
        strange = replace(model, features="smell")
        strange.save(tmp_path / "strange.safetensors")
        with pytest.raises(InputError, match="newer trackvae: no descriptor 'smell'"):
            Embedder(tmp_path / "strange.safetensors")
        assert read_appearance_model(tmp_path / "strange.safetensors").features == "smell"

    @pytest.mark.parametrize(
        ("boxes", "said"),
        [(np.zeros((4, 5)), r"expected \(N, 4\)"), (np.full((1, 4), np.nan), "finite coordinates")],
    )
    def test_boxes_that_are_none(self, model, frame, boxes, said):
        with pytest.raises(InputError, match=said):
            Embedder(model)(frame, boxes)
