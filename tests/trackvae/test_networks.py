"""Laws of the networks: what they compute, how large they are, what they bear."""

import math

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from trackvae.config import ModelConfig, build, thesis_config  # noqa: E402
from trackvae.errors import UsageError  # noqa: E402
from trackvae.geometry import jacobian, metric_product  # noqa: E402
from trackvae.networks import ACTIVATIONS, Gated, gated_mlp, glorot, he  # noqa: E402

SMALL = {"latent": 3, "hidden": (7, 5), "prior_hidden": (4,), "prior_samples": 2}
SHAPES = [
    ("mlp", (5,)),
    ("mlp", (2, 3, 4)),
    ("gated-mlp", (5,)),
    ("gated-mlp", (2, 3, 4)),
    ("gated-conv", (1, 28, 28)),
    ("gated-conv", (9, 7)),
    ("gated-conv", (3, 6, 10)),
    ("faces-conv", (1, 64, 64)),
    ("faces-conv", (3, 16, 32)),
    ("vgg16", (1, 64, 32)),
    ("crop-conv", (3, 32, 32)),
    ("crop-conv", (3, 48, 16)),
    ("crop-conv", (64, 32)),
]
EACH = [
    ("mlp", (6,)),
    ("gated-mlp", (2, 3)),
    ("gated-conv", (9, 7)),
    ("gated-conv", (3, 6, 10)),
    ("faces-conv", (3, 16, 32)),
    ("vgg16", (3, 32, 32)),
    ("crop-conv", (3, 32, 16)),
]
every_shape = pytest.mark.parametrize(("network", "shape"), SHAPES)
every_network = pytest.mark.parametrize(("network", "shape"), EACH)


def made(network, shape, activation="elu", **changes):
    """A model, the same at every call."""
    torch.manual_seed(0)
    config = ModelConfig(shape, network=network, activation=activation, **{**SMALL, **changes})
    return build(config)


def close(found, expected):
    """To the rounding of a dozen layers in float32 (double precision takes five times as long)."""
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def size(module):
    return sum(p.numel() for p in module.parameters())


@every_shape
def test_leading_dimensions_agree_with_one_at_a_time(network, shape):
    """Samples times batch, none at all, and an empty batch."""
    model = made(network, shape)
    x, z = torch.rand(2, 3, *shape), torch.randn(2, 3, 3)
    with torch.no_grad():
        q, drawn = model.encoder(x), model.decoder(z)
        assert q.mean.shape == q.log_var.shape == (2, 3, 3)
        assert drawn.shape == x.shape
        for place in ((0, 0), (0, 2), (1, 1)):
            one = model.encoder(x[place])
            close(q.mean[place], one.mean)
            close(q.log_var[place], one.log_var)
            close(drawn[place], model.decoder(z[place]))
        assert model.encoder(x[:0, 0]).mean.shape == (0, 3)
        assert model.decoder(z[:0]).shape == (0, 3, *shape)


@every_network
def test_every_pixel_is_seen_and_drawn(network, shape):
    model = made(network, shape)
    x = torch.rand(1, *shape, requires_grad=True)
    model.encoder(x).mean.square().sum().backward()
    assert (x.grad != 0).all()
    assert (jacobian(model.decoder, torch.randn(1, 3)) != 0).any(-1).all()


@pytest.mark.parametrize(
    ("network", "shape", "prior"),
    [(*each, "vhp") for each in EACH] + [("gated-conv", (3, 6, 10), "vamp")],
)
def test_gradients_reach_every_parameter(network, shape, prior):
    model = made(network, shape, prior=prior, pseudo_inputs=4, likelihood="bernoulli")
    x = torch.rand(5, *shape)
    terms = model.terms(x, torch.Generator().manual_seed(1), samples=2)
    assert terms.rate.shape == terms.error.shape == (2, 5)
    terms.lagrangian(0.5).mean().backward()
    untouched = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert not untouched
    assert model.sample(2).shape == (2, *shape)


@every_network
def test_forward_and_reverse_mode_go_through_every_decoder(network, shape):
    """J against central differences, G v against J' J v."""
    decoder = made(network, shape, activation="tanh").double().decode
    z = torch.randn(2, 3, dtype=torch.float64)
    v = torch.randn(2, 2, 3, dtype=torch.float64)
    with torch.no_grad():
        J = jacobian(decoder, z)
        for i, step in enumerate(1e-5 * torch.eye(3, dtype=torch.float64)):
            difference = (decoder(z + step) - decoder(z - step)).flatten(1) / 2e-5
            torch.testing.assert_close(J[..., i], difference, rtol=1e-5, atol=1e-8)
        expected = torch.einsum("nxi,nxj,pnj->pni", J, J, v)
        torch.testing.assert_close(metric_product(decoder, z, v), expected)


@every_network
def test_a_seed_makes_the_weights(network, shape):
    first, again = (made(network, shape).state_dict() for _ in range(2))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert all(value.std() > 0 for value in first.values() if value.dim() > 1)


@every_network
def test_the_chosen_activation_is_the_only_one(network, shape):
    model = made(network, shape, activation="gelu")
    kinds = {type(m) for m in model.modules()} & {type(make()) for make in ACTIVATIONS.values()}
    assert kinds == {nn.GELU}


@pytest.mark.parametrize(("network", "shape"), [s for s in EACH if len(s[1]) == 3])
def test_the_memory_layout_changes_nothing_but_the_time(network, shape):
    model = made(network, shape)
    x, z = torch.rand(2, *shape), torch.randn(2, 3)
    with torch.no_grad():
        before = model.encoder(x).mean, model.decoder(z)
        model.to(memory_format=torch.channels_last)
        x = x.contiguous(memory_format=torch.channels_last)
        close(model.encoder(x).mean, before[0])
        close(model.decoder(z), before[1])


def test_a_gated_layer_is_the_formula():
    """(w x + b) sigmoid(v x + c), a number at a time."""
    torch.manual_seed(0)
    layer = Gated(nn.Linear(3, 2), nn.Linear(3, 2))
    x = torch.randn(4, 3)
    layer.requires_grad_(False)
    found = layer(x)
    for n in range(4):
        for i in range(2):
            value, gate = (
                float(part.bias[i]) + sum(float(part.weight[i, j] * x[n, j]) for j in range(3))
                for part in (layer.value, layer.gate)
            )
            assert float(found[n, i]) == pytest.approx(value / (1 + math.exp(-gate)), abs=1e-6)


def test_the_first_gated_convolution_is_the_formula():
    """7 x 7, stride 1, padded by 3, at a corner, an edge and inside."""
    encoder = made("gated-conv", (9, 8)).double().encoder.requires_grad_(False)
    layer = encoder.network.network[0]
    x = torch.rand(9, 8, dtype=torch.float64)
    found = layer(x[None, None])[0]
    assert found.shape == (32, 9, 8)
    for channel, row, column in ((0, 0, 0), (5, 8, 3), (31, 4, 4)):
        value, gate = (
            float(part.bias[channel])
            + sum(
                float(part.weight[channel, 0, i, j] * x[row + i - 3, column + j - 3])
                for i in range(7)
                for j in range(7)
                if 0 <= row + i - 3 < 9 and 0 <= column + j - 3 < 8
            )
            for part in (layer.value, layer.gate)
        )
        expected = value / (1 + math.exp(-gate))
        assert float(found[channel, row, column]) == pytest.approx(expected)


def test_gated_weights_follow_glorot_s_rule_each_by_itself():
    torch.manual_seed(0)
    network = gated_mlp(300, (200,), 100)
    for layer in (network[0].value, network[0].gate, network[1]):
        fan_out, fan_in = layer.weight.shape
        limit = math.sqrt(6 / (fan_in + fan_out))
        assert limit * 0.99 < float(layer.weight.detach().abs().max()) <= limit
        assert float(layer.weight.detach().std()) == pytest.approx(limit / math.sqrt(3), rel=0.02)
        assert not layer.bias.any()
    assert glorot(network) is network


def test_the_signal_of_an_untrained_vgg_does_not_die_out():
    """Glorot's rule alone leaves deviations of 1e-4 and less."""
    model = made("vgg16", (3, 64, 32), activation="relu", latent=8)
    with torch.no_grad():
        means = model.encoder(torch.rand(12, 3, 1, 1) * torch.rand(12, 3, 64, 32)).mean
        drawn = model.decoder(torch.randn(12, 8))
    assert 0.01 < means.std(0).mean() < 1
    assert 0.01 < drawn.std(0).mean() < 1


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (nn.Linear(300, 200), (64, 300)),
        (nn.Conv2d(40, 30, 3), (8, 40, 8, 8)),
        (nn.ConvTranspose2d(40, 60, 4, stride=2, padding=2), (8, 40, 8, 8)),
    ],
)
def test_he_s_rule_doubles_the_mean_square_which_relu_halves(layer, shape):
    torch.manual_seed(0)
    network = he(nn.Sequential(layer, nn.Linear(1, 1)))
    x = torch.randn(shape)
    with torch.no_grad():
        assert float(network[0](x).square().mean()) == pytest.approx(2.0, rel=0.05)
    assert not layer.bias.any()
    assert network[1].weight.abs() <= math.sqrt(3)  # the last by Glorot's rule


# --- the thesis's networks


def conv(before, after, kernel):
    return before * after * kernel**2 + after


def full(before, after):
    return before * after + after


FOUR = (256, 256, 256, 256)
DIGITS_ENCODER = (
    2 * (conv(1, 32, 7) + conv(32, 32, 3) + conv(32, 64, 5) + conv(64, 64, 3) + conv(64, 64, 3))
) + full(64 * 7 * 7, 64)
DIGITS_DECODER = 2 * (full(32, 784) + conv(1, 64, 3) + 4 * conv(64, 64, 3)) + conv(64, 1, 1)
FACES_ENCODER = (
    conv(1, 32, 5) + conv(32, 32, 3) + conv(32, 48, 5) + conv(48, 48, 3)
    + conv(48, 64, 5) + conv(64, 64, 3) + conv(64, 96, 5) + conv(96, 96, 3)
    + full(96 * 4 * 4, 256) + full(256, 64)
)  # fmt: skip
FACES_DECODER = (
    full(32, 256) + full(256, 96 * 4 * 4)
    + conv(96, 96, 3) + conv(96, 64, 5) + conv(64, 64, 3) + conv(64, 48, 5)
    + conv(48, 48, 3) + conv(48, 32, 5) + conv(32, 32, 3) + conv(32, 1, 5)
)  # fmt: skip
MOT_DECODER = full(128, 2048) + sum(
    conv(before, after, 4) + conv(after, after, 3)
    for before, after in ((512, 256), (256, 128), (128, 64), (64, 32), (32, 16))
) + conv(16, 3, 3)  # fmt: skip


@pytest.mark.parametrize(
    ("experiment", "shape", "encoder", "decoder", "prior"),
    [
        ("pendulum", (16, 16), full(256, 256) * 4 + full(256, 4),
         full(2, 256) + 4 * full(256, 256), 2 * (full(2, 256) + 3 * full(256, 256) + full(256, 4))),
        ("motion", (50,), full(50, 256) + full(256, 256) * 3 + full(256, 4),
         full(2, 256) + 3 * full(256, 256) + full(256, 50),
         2 * (full(2, 256) + 3 * full(256, 256) + full(256, 4))),
        ("digits", (1, 28, 28), DIGITS_ENCODER, DIGITS_DECODER,
         2 * (full(32, 256) + full(256, 256) + full(256, 64))),
        ("digits-2d", (1, 28, 28), full(784, 256) + 3 * full(256, 256) + full(256, 4),
         full(2, 256) + 3 * full(256, 256) + full(256, 784),
         2 * (full(2, 256) + 3 * full(256, 256) + full(256, 4))),
        ("faces", (1, 64, 64), FACES_ENCODER, FACES_DECODER,
         2 * (full(32, 256) + full(256, 256) + full(256, 64))),
        ("mot16", (3, 64, 64), 14_714_688 + full(2048, 256), MOT_DECODER,
         2 * (full(128, 512) + full(512, 512) + full(512, 256))),
    ],
)  # fmt: skip
def test_the_thesis_s_networks_have_the_tables_sizes(experiment, shape, encoder, decoder, prior):
    """Parameters counted by hand; 14,714,688 is the figure known for VGG16's convolutions."""
    model = build(thesis_config(experiment, shape))
    assert size(model.encoder) == encoder
    assert size(model.decoder) == decoder
    assert size(model.prior) == prior


@pytest.mark.parametrize(
    ("experiment", "kind", "samples"),
    [("pendulum", "gaussian", 16), ("motion", "gaussian", 32), ("digits", "bernoulli", 16),
     ("digits-2d", "bernoulli", 16), ("faces", "bernoulli", 16), ("mot16", "gaussian", 8)],
)  # fmt: skip
def test_the_thesis_s_models_have_the_tables_likelihood_and_samples(experiment, kind, samples):
    config = thesis_config(experiment, (3, 64, 64), activation="silu")
    assert (config.likelihood, config.prior, config.prior_samples) == (kind, "vhp", samples)
    assert config.activation == "silu"
    assert thesis_config(experiment, (3, 64, 64)).activation == "relu"


def test_the_vgg_encoder_is_torchvision_s():
    """Its convolutions with our weights give the same features."""
    vgg = pytest.importorskip("torchvision.models.vgg")
    reference = vgg.make_layers(vgg.cfgs["D"])
    ours = made("vgg16", (3, 64, 32), activation="relu").encoder.network.network[:-2]
    reference.load_state_dict(ours.state_dict())
    x = torch.rand(2, 3, 64, 32)
    with torch.no_grad():
        close(ours(x), reference(x))


def test_the_crop_network_is_small():
    """FINDINGS' prototype: 0.46 million and 0.94 million weights."""
    model = build(ModelConfig((3, 64, 64), latent=64, network="crop-conv", prior="normal"))
    assert size(model.encoder) < 460_000
    assert size(model.decoder) < 940_000


@pytest.mark.parametrize(
    ("network", "shape", "message"),
    [
        ("vgg16", (3, 60, 64), "vgg16 needs height and width in multiples of 32; .* 3 x 60 x 64"),
        ("crop-conv", (3, 32, 24), "crop-conv needs .* multiples of 16; .* 3 x 32 x 24"),
        ("faces-conv", (28, 28), "faces-conv needs .* multiples of 16; .* is 28 x 28"),
        ("gated-conv", (784,), "gated-conv needs images, C x H x W or H x W; .* is 784"),
        ("crop-conv", (2, 3, 32, 32), "crop-conv needs images"),
        ("gated-conv", (28, 28, 1), "gated-conv needs the channels first, .* 28 x 28 x 1"),
        ("transformer", (4,), "network is 'transformer', expected one of mlp, gated-mlp"),
    ],
)
def test_observations_that_do_not_fit(network, shape, message):
    with pytest.raises(UsageError, match=message):
        ModelConfig(shape, network=network)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: thesis_config("chairs", (4,)), "experiment is 'chairs', expected one of pendulum"),
        (lambda: thesis_config("motion", (4,), depth=3), "a model has no depth, only activation"),
        (lambda: thesis_config("mot16", (3, 48, 48)), "multiples of 32"),
        (lambda: ModelConfig((4,), constraint="small"), "constraint is 'small', expected one of"),
        (lambda: build(thesis_config("faces", (64, 64), activation="swoosh")), "'swoosh'"),
    ],
)
def test_settings_that_mean_nothing(make, message):
    with pytest.raises(UsageError, match=message):
        make()
