"""Diagnoses without labels, on rings made by hand: clean, folded, torn, dented, collapsed."""

import math

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from trackvae.config import ModelConfig, build  # noqa: E402
from trackvae.distributions import Gaussian  # noqa: E402
from trackvae.errors import InputError, UsageError  # noqa: E402
from training.data.pendulum import render_pendulum  # noqa: E402
from training.monitors import (  # noqa: E402
    Diagnosis,
    Neighbourhoods,
    active_units,
    decoder_response,
    diagnose,
    information_per_dimension,
    kl_per_dimension,
    neighbourhoods,
)
from training.restarts import (  # noqa: E402
    attempt_seed,
    fit_until,
    quiet_means,
    train_with_restarts,
)
from training.schedules import FixedBeta  # noqa: E402
from training.trainer import TrainConfig, Trainer  # noqa: E402

COUNT = 300
ANGLES = np.random.default_rng(3).uniform(0, 2 * np.pi, COUNT)
IMAGES = torch.from_numpy(render_pendulum(ANGLES))


def circle(angle):
    return np.c_[np.cos(angle), np.sin(angle)]


def eight(angle):
    return np.c_[np.sin(angle), np.sin(2 * angle)]


def torn(angle):
    """A ring cut open at one place, its ends half a ring apart."""
    return circle(0.5 * angle)


def dented(angle):
    """A kidney: no crossing, but two strands close to each other."""
    radius = 1 - 0.9 * np.exp(-((angle - np.pi) ** 2) / 0.3)
    return radius[:, None] * circle(angle)


def placed(points, scale, turn):
    """Scaled, turned and shifted; every second one mirrored."""
    c, s = math.cos(turn), math.sin(turn)
    flip = -1 if int(turn * 4) % 2 else 1
    moved = scale * points @ np.array([[c, s], [-s * flip, c * flip]]) + [7 * scale, -scale]
    return torch.from_numpy(moved)


PLACES = [(10.0 ** (k - 4), 0.7 * k) for k in range(8)]


@pytest.mark.parametrize(("scale", "turn"), PLACES)
@pytest.mark.parametrize(
    ("ring", "folded"), [(circle, False), (eight, True), (torn, True), (dented, True)]
)
def test_a_fold_is_found_in_any_size_and_orientation(ring, folded, scale, turn):
    found = neighbourhoods(placed(ring(ANGLES), scale, turn), IMAGES)
    assert found.resolved
    assert found.folded is folded
    still = neighbourhoods(torch.from_numpy(ring(ANGLES)), 255 * IMAGES)
    assert found.tear == pytest.approx(still.tear, rel=1e-4)
    assert found.straightness == pytest.approx(still.straightness, rel=1e-4)
    assert found.crossing == still.crossing


def test_each_kind_of_fold_shows_in_the_figure_that_is_about_it():
    points = {ring: torch.from_numpy(ring(ANGLES)) for ring in (circle, eight, torn, dented)}
    found = {ring: neighbourhoods(z, IMAGES) for ring, z in points.items()}
    assert found[circle].crossing == 0
    assert found[circle].straightness == pytest.approx(2 / math.pi, abs=0.01)
    assert found[eight].crossing > 0.005
    assert found[torn].crossing == 0
    assert found[torn].tear > 10
    assert found[dented].crossing == 0
    assert found[dented].tear < 4
    assert found[dented].straightness < 0.4


def test_latents_with_too_few_dimensions_overlap_and_are_not_called_folded():
    cloud = torch.randn(COUNT, 12, generator=torch.Generator().manual_seed(0))
    found = neighbourhoods(cloud[:, :2], cloud)
    assert not found.resolved
    assert not found.folded
    assert not neighbourhoods(cloud, cloud).folded


def naive_trustworthiness(near_of, ranked_by, k):
    """Venna and Kaski (2001), with loops."""
    n, total = len(near_of), 0
    for i in range(n):
        near = [j for j in np.argsort(near_of[i]) if j != i][:k]
        order = [j for j in np.argsort(ranked_by[i]) if j != i]
        total += sum(max(order.index(j) + 1 - k, 0) for j in near)
    return 1 - 2 * total / (n * k * (2 * n - 3 * k - 1))


def test_trustworthiness_and_continuity_equal_a_naive_loop():
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(40, 3, generator=generator, dtype=torch.float64)
    z = x[:, :2] + 0.1 * torch.randn(40, 2, generator=generator, dtype=torch.float64)
    found = neighbourhoods(z, x, k=4)
    dz, dx = torch.cdist(z, z).numpy(), torch.cdist(x, x).numpy()
    assert found.trustworthiness == pytest.approx(naive_trustworthiness(dz, dx, 4))
    assert found.continuity == pytest.approx(naive_trustworthiness(dx, dz, 4))
    assert neighbourhoods(x, x, k=4).trustworthiness == 1


def test_kl_and_information_of_a_channel_by_hand():
    mean = torch.tensor([[1.0, 0.0], [-1.0, 0.0]])
    q = Gaussian(mean, torch.log(torch.tensor([[0.25, 1.0], [0.25, 1.0]])))
    by_hand = 0.5 * (1 + 0.25 - math.log(0.25) - 1)
    assert kl_per_dimension(q).tolist() == pytest.approx([by_hand, 0.0])
    assert information_per_dimension(q).tolist() == pytest.approx([0.5 * math.log(5), 0.0])
    scaled = Gaussian(1e-3 * q.mean, q.log_var + 2 * math.log(1e-3))
    assert information_per_dimension(scaled).tolist() == pytest.approx([0.5 * math.log(5), 0.0])
    assert active_units(mean).tolist() == [True, False]


def test_a_decoder_that_ignores_z_has_no_response():
    x = torch.randn(100, 4)
    assert decoder_response(x, x) == pytest.approx(1)
    assert decoder_response(x, x.mean(0).expand(100, 4)) == pytest.approx(0, abs=1e-6)
    assert decoder_response(torch.ones(9, 4), torch.ones(9, 4)) == 1


class Encoder(torch.nn.Module):
    """Latents of a ring, whatever the picture: looked up by the bob's direction."""

    def __init__(self, ring, deviation):
        super().__init__()
        self._ring, self._log_var = ring, 2 * math.log(deviation)

    def forward(self, x):
        pixels = torch.arange(16.0) - 7.5
        weight = x.reshape(len(x), 16, 16)
        across, down = (weight.sum(1) * pixels).sum(1), (weight.sum(2) * pixels).sum(1)
        angle = torch.atan2(across, -down).numpy() % (2 * np.pi)
        mean = torch.from_numpy(self._ring(angle).astype(np.float32))
        return Gaussian(mean, torch.full_like(mean, self._log_var))


class Decoder(torch.nn.Module):
    """A linear decoder, or one that ignores z."""

    def __init__(self, gain):
        super().__init__()
        self.layer = torch.nn.Linear(2, 256)
        torch.nn.init.normal_(self.layer.weight, std=gain)

    def forward(self, z):
        return self.layer(z).unflatten(-1, (16, 16))


@pytest.mark.parametrize("prior", ["normal", "vhp"])
@pytest.mark.parametrize(
    ("ring", "gain", "verdict"),
    [
        (circle, 0.1, "Sound"),
        (eight, 0.1, "Folded"),
        (lambda angle: 0 * circle(angle), 0.1, "Collapsed"),
        (circle, 1e-5, "Collapsed"),
    ],
)
def test_a_diagnosis_says_what_it_found_in_one_sentence(ring, gain, verdict, prior):
    torch.manual_seed(0)
    model = build(ModelConfig((16, 16), hidden=(4,), prior_hidden=(4,), prior=prior))
    model.encoder, model.decoder = Encoder(ring, 0.05), Decoder(gain)
    found = diagnose(model, IMAGES)
    assert found.sentence.startswith(verdict)
    assert "\n" not in found.sentence
    assert (found.folded, found.collapsed) == (verdict == "Folded", verdict == "Collapsed")
    assert found.sound is (verdict == "Sound")
    assert len(found.kl) == 2
    assert found == diagnose(model, IMAGES)


def test_a_handful_of_observations_is_refused():
    with pytest.raises(InputError, match="15 observations"):
        neighbourhoods(torch.randn(15, 2), torch.randn(15, 4))


# --- restarts


def diagnosis(crossing=0.0, *, collapsed=False):
    near = Neighbourhoods(1.0, 1.0, 0.01, crossing, 1.0, 0.6)
    return Diagnosis((1.0,), 1, 1, 1.0, 1.0, near, 1.0, near.folded, collapsed, "")


class FakeRun:
    def __init__(self, attempt):
        self.attempt, self.finished = attempt, False


def restarted(early, late, most=5):
    """Runs whose diagnoses are given by attempt; what was begun and finished."""
    begun, finished = [], []

    def begin(attempt):
        begun.append(attempt)
        return FakeRun(attempt)

    def finish(run):
        run.finished = True
        finished.append(run.attempt)

    def check(run):
        return (late if run.finished else early)[run.attempt]

    return train_with_restarts(begin, check, finish, most=most), begun, finished


def test_a_fold_is_given_up_early_and_only_the_sound_run_is_finished():
    sound, folded = diagnosis(), diagnosis(0.1)
    found, begun, finished = restarted([folded, folded, sound], [None, None, sound])
    assert (begun, finished) == ([0, 1, 2], [2])
    assert (found.kept, found.restarts) == (2, 2)
    assert found.diagnosis.sound


def test_a_run_that_folds_late_starts_again_too():
    sound, folded = diagnosis(), diagnosis(0.1)
    found, begun, finished = restarted([sound, sound], [folded, sound])
    assert (begun, finished, found.kept) == ([0, 1], [0, 1], 1)


def test_where_none_is_sound_the_least_bad_is_finished():
    bad = [diagnosis(0.3), diagnosis(0.1), diagnosis(collapsed=True)]
    found, begun, finished = restarted(bad, bad, most=3)
    assert (begun, finished, found.kept, found.restarts) == ([0, 1, 2], [1], 1, 2)
    assert found.run.finished
    with pytest.raises(UsageError, match="0 attempts"):
        restarted([], [], most=0)


def test_attempts_of_neighbouring_seeds_never_share_a_seed():
    seeds = [attempt_seed(seed, attempt) for seed in range(100) for attempt in range(20)]
    assert len(set(seeds)) == len(seeds)
    assert attempt_seed(7, 0) == 7


def test_a_run_that_was_stopped_and_goes_on_equals_one_that_was_not():
    def a_run():
        torch.manual_seed(2)
        model = build(ModelConfig((6,), hidden=(8,), prior="normal"))
        return model, Trainer(model, FixedBeta(0.5), TrainConfig(steps=12, batch_size=16))

    data = torch.randn(64, 6, generator=torch.Generator().manual_seed(0))
    whole, trainer = a_run()
    trainer.fit(data)
    parted, trainer = a_run()
    assert fit_until(trainer, data, lambda report: report.step == 5)
    assert trainer.step == 5
    assert not fit_until(trainer, data, lambda report: False)
    for name, value in whole.state_dict().items():
        assert torch.equal(value, parted.state_dict()[name]), name


def test_quiet_means_shrinks_the_means_and_nothing_else():
    torch.manual_seed(0)
    model = build(ModelConfig((6,), latent=3, hidden=(8,), prior="normal"))
    x = torch.randn(5, 6)
    before = model.encode(x)
    quiet_means(model, 3, 0.1)
    after = model.encode(x)
    torch.testing.assert_close(after.mean, 0.1 * before.mean)
    torch.testing.assert_close(after.log_var, before.log_var)
