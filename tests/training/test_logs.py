"""Logs: what is in them, and that a resumed run's log is that of the uninterrupted one."""

import json
import sys

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("lightning_fabric")

from tests.training.test_trainer import a_run, ring  # noqa: E402
from trackvae.config import ModelConfig, build  # noqa: E402
from trackvae.errors import InputError, UsageError  # noqa: E402
from training.logs import JsonLines, TensorBoard, latent_use  # noqa: E402
from training.schedules import REWO, Phase  # noqa: E402
from training.trainer import Report  # noqa: E402


def report(step):
    return Report(step, Phase(0.5), 1.0, 2.0, 3.0, 4.0, 1e-3, 0.8, None)


def lines_of(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def curves(folder):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder)).Reload()
    return {
        tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]
    }


class KilledError(Exception):
    pass


def trained(folder, kill_at=None, resume=False):
    model, trainer = a_run(
        steps=12, checkpoint_every=4, eta=1.0, schedule=REWO(1.5, alpha=0.5, beta=0.1)
    )
    if resume:
        trainer.resume(folder / "checkpoint.safetensors")
    lines = JsonLines(
        folder / "log.jsonl", every=2, use=lambda: latent_use(model, ring()), use_every=3
    )
    board = TensorBoard(folder / "board", every=2)

    def on_step(report):
        lines(report)
        board(report)
        if report.step == kill_at:
            raise KilledError

    with lines, board:
        trainer.fit(ring(), checkpoint=folder / "checkpoint.safetensors", on_step=on_step)


def test_the_log_of_a_resumed_run_is_that_of_the_uninterrupted_one(tmp_path):
    whole, pieces = tmp_path / "whole", tmp_path / "pieces"
    whole.mkdir()
    pieces.mkdir()
    trained(whole)
    with pytest.raises(KilledError):
        trained(pieces, kill_at=11)  # the last checkpoint is of step 8
    with (pieces / "log.jsonl").open("a") as file:
        file.write('{"step": 12, "be')  # the kill came in the middle of a line
    trained(pieces, resume=True)
    expected = lines_of(whole / "log.jsonl")
    assert lines_of(pieces / "log.jsonl") == expected
    assert [line["step"] for line in expected] == [1, 2, 3, 4, 6, 8, 9, 10, 12]
    assert curves(pieces / "board") == curves(whole / "board")


def test_the_lines_hold_what_the_report_says(tmp_path):
    trained(tmp_path)
    lines = lines_of(tmp_path / "log.jsonl")
    assert set(lines[1]) == {
        "step",
        "beta",
        "train_prior",
        "constraint",
        "rate",
        "distortion",
        "error",
        "loss",
        "flatness",
        "learning_rate",
    }
    assert lines[0]["learning_rate"] == 1e-3  # of the first step, before the cosine falls
    for line in lines:
        assert ("kl" in line) == (line["step"] % 3 == 0)
        assert (line["flatness"] is not None) == line["train_prior"]
    assert any(line["train_prior"] for line in lines)
    assert any(line["constraint"] < 1 for line in lines)
    steps, betas = zip(*curves(tmp_path / "board")["beta"], strict=True)
    assert steps == (1, 2, 4, 6, 8, 10, 12)
    logged = [line["beta"] for line in lines if line["step"] in steps]
    assert betas == pytest.approx(logged)


def test_the_use_of_the_dimensions_is_found():
    """The encoder is linear: z_0 tells x_0 apart at 0.1, z_1 tells nothing."""
    model = build(ModelConfig((2,), latent=2, hidden=(), prior="normal"))
    layer = model.encoder.network[1][0]
    with torch.no_grad():
        layer.weight.zero_()
        layer.weight[0, 0] = 1.0
        layer.bias.copy_(torch.tensor([0.0, 0.0, 2 * torch.log(torch.tensor(0.1)), 0.0]))
    x = torch.tensor([[-1.0, 5.0], [1.0, 5.0]]).repeat(300, 1)
    use = latent_use(model, x)
    # (log(1 + 0.01) - log 0.01) / 2
    assert use.kl == pytest.approx((2.3075216, 0.0), abs=1e-5)
    assert use.active == 1


def test_a_new_run_begins_its_log_anew(tmp_path):
    path = tmp_path / "log.jsonl"
    for _ in range(2):
        with JsonLines(path) as log:
            for step in range(1, 4):
                log(report(step))
    assert [line["step"] for line in lines_of(path)] == [1, 2, 3]


def test_every_line_is_on_disk_when_its_step_is_over(tmp_path):
    log = JsonLines(tmp_path / "a" / "log.jsonl")
    log(report(1))
    assert lines_of(tmp_path / "a" / "log.jsonl")[0]["beta"] == 0.5


@pytest.mark.parametrize("content", [b"my notes\n", b'{"a": 1}\n', b"\xff\xfe\n", b"[1]\n"])
def test_another_file_is_not_overwritten(tmp_path, content):
    path = tmp_path / "notes.txt"
    path.write_bytes(content)
    with pytest.raises(InputError, match="not a log of a run, and not overwritten"):
        JsonLines(path)(report(1))
    assert path.read_bytes() == content


def test_what_cannot_be_logged(tmp_path, monkeypatch):
    with pytest.raises(UsageError, match="every is 0"):
        JsonLines(tmp_path / "log", every=0)
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="not a folder"):
        JsonLines(tmp_path / "file" / "log")(report(1))
    with pytest.raises(InputError, match="cannot be written"):
        TensorBoard(tmp_path / "file")(report(1))
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(InputError, match=r"pip install 'trackvae\[torch\]'"):
        TensorBoard(tmp_path / "board")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/dev/full is Linux's")
def test_a_full_disk_is_told(tmp_path):
    log = JsonLines(tmp_path / "log")
    log(report(1))
    with open("/dev/full", "w") as full:
        log._file.close()
        log._file = full
        with pytest.raises(InputError, match="No space left"):
            log(report(2))
        log._file = None
        with pytest.raises(OSError, match="No space left"):
            full.close()
