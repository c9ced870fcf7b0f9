"""One training run: find kappa, train, be stopped, start again, save, measure, say what came."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from tools.inspect.measure import encode, measured_part, observations, some_rows, summary
from tools.results import machine, versions
from tools.train.folder import RunFolder
from tools.train.interrupt import Stopped, stop_after_step
from tools.train.plan import PILOT_BETA, Plan, kappa_of
from trackvae.errors import InputError

if TYPE_CHECKING:
    from lightning_fabric import Fabric
    from torch import Tensor

    from trackvae.vae import VAE
    from training.data import DataSet
    from training.data.dataset import Part
    from training.monitors import Diagnosis
    from training.schedules import Schedule
    from training.trainer import Report, Summary, Trainer

_PACKAGES = ("trackvae", "torch", "numpy", "lightning-fabric", "safetensors")
_SAID_EVERY = 0.1  # of the steps, where no progress bar is seen
_LOGGED_EVERY = 10  # steps
_MEASURED = 2000  # examples at the end of a run
_FEWEST_DIAGNOSED = 16  # neighbourhoods of fewer mean nothing
_JUDGED_AT = 0.25  # of the steps, where no constraint says when


@dataclass
class _Attempt:
    """One model from one set of first weights."""

    number: int
    model: VAE
    schedule: Schedule
    trainer: Trainer
    ended: Summary | None = None
    stepped: bool = False  # in this call: what is on disk is older


class Run:
    """One call of the command, with everything settled but kappa."""

    def __init__(
        self,
        name: str,
        folder: RunFolder,
        data: DataSet,
        plan: Plan,
        fabric: Fabric,
        *,
        resume: bool,
        look: str,
    ) -> None:
        """Take everything that a run needs.

        Args:
            name: of the model, for the progress.
            folder: where everything is written; the run is begun there.
            data: what is learned from.
            plan: the run as data.
            fabric: what it is computed on.
            resume: go on with the checkpoints that are there.
            look: the command that shows the result, said at the end.
        """
        self._name, self._folder, self._data = name, folder, data
        self._plan, self._fabric = plan, fabric
        self._resume, self._look = resume, look
        self._before = float(folder.note("seconds") or 0.0)
        self._start = time.perf_counter()
        self._stopped: Callable[[], bool] = lambda: False

    def run(self, restarts: int) -> int:
        """Train, save, measure, say; the exit code.

        Raises:
            InputError: the run came to nothing: kappa was not met, or the loss is not finite.
        """
        with stop_after_step() as pressed:
            self._stopped = lambda: self._any(pressed())
            try:
                self._settle_kappa()
                attempt, diagnosis, tried = self._train(restarts)
            except Stopped:
                self._write(seconds=self._seconds())
                where = f"the same command with --resume ({self._folder.path})"
                print(f"\ninterrupted; to go on: {where}", file=sys.stderr)
                return 130
        stopped = attempt.ended.stopped if attempt.ended is not None else None
        if not self._fabric.is_global_zero:
            return int(stopped is not None)  # the first process says it
        self._finish(attempt, diagnosis, tried, stopped)
        if stopped is not None:
            raise InputError(stopped)
        return 0

    # --- kappa

    def _settle_kappa(self) -> None:
        """Find the kappa that nobody gave, once for a run."""
        if not self._plan.needs_kappa:
            return
        found = self._fabric.broadcast(self._folder.note("kappa"))
        if found is None:
            found = self._pilot()
            self._write(kappa=found)
        self._plan = self._plan.with_kappa(float(found))

    def _pilot(self) -> float:
        from training.schedules import FixedBeta
        from training.trainer import Trainer

        pilot = self._plan.pilot()
        model = _build(pilot)
        trainer = Trainer(model, FixedBeta(PILOT_BETA), pilot.train, fabric=self._fabric)
        errors: list[float] = []
        with self._shown("finding kappa", pilot.train.steps) as show:

            def on_step(report: Report) -> None:
                errors.append(report.error)
                show(report)

            trainer.fit(self._data, on_step=on_step)
        kappa = kappa_of(errors)
        self._say(f"kappa: {kappa:.4g}, from {len(errors)} steps of reconstruction alone")
        return kappa

    # --- training

    def _train(self, restarts: int) -> tuple[_Attempt, Diagnosis | None, int]:
        """The attempt that is kept, what it looks like, and how many there were."""
        from training.restarts import train_with_restarts

        if not restarts or len(self._data.train) < _FEWEST_DIAGNOSED:
            attempt = self._attempt(0)
            self._fit(attempt)
            return attempt, self._diagnose(attempt), 1
        best = train_with_restarts(self._begin, self._judge, self._fit, most=restarts + 1)
        return best.run, best.diagnosis, len(best.diagnoses)

    def _attempt(self, number: int) -> _Attempt:
        """Model and trainer of an attempt, at its latest checkpoint where there is one."""
        from training.restarts import attempt_seed
        from training.trainer import Trainer

        config = replace(self._plan.train, seed=attempt_seed(self._plan.train.seed, number))
        plan = replace(self._plan, train=config)
        model, schedule, flatness = _build(plan), plan.make_schedule(), plan.make_flatness()
        trainer = Trainer(model, schedule, config, flatness=flatness, fabric=self._fabric)
        return _Attempt(number, model, schedule, trainer)

    def _begin(self, number: int) -> _Attempt:
        """Train an attempt until it can be judged: until the constraint is first met.

        The state at that moment has a file of its own, so that a resumed run judges the same.
        """
        attempt = self._attempt(number)
        early = self._folder.of_attempt("judged.safetensors", number)
        if self._resume and early.exists():
            attempt.trainer.resume(early)
            return attempt
        at = round(_JUDGED_AT * self._plan.train.steps)

        def until(report: Report) -> bool:
            ratio = report.constraint
            return report.step >= at if ratio is None else ratio < 1

        self._fit(attempt, until)
        attempt.trainer.save(early)
        return attempt

    def _judge(self, attempt: _Attempt) -> Diagnosis:
        """What an attempt looks like, said in one line."""
        found = self._diagnose(attempt)
        assert found is not None  # there are enough observations, see _train
        self._say(f"attempt {attempt.number}, step {attempt.trainer.step}: {found.sentence}")
        return found

    def _fit(self, attempt: _Attempt, until: Callable[[Report], bool] | None = None) -> None:
        """Train to the end, or until a report says so; Ctrl-C leaves a checkpoint."""
        checkpoint = self._folder.of_attempt("checkpoint.safetensors", attempt.number)
        trainer, steps = attempt.trainer, self._plan.train.steps
        if self._resume and checkpoint.exists() and not attempt.stepped:
            trainer.resume(checkpoint)
            self._say(f"going on from step {trainer.step} of {steps}")
        attempt.stepped = True
        with self._logs(attempt) as log, self._shown(self._name, steps) as show:

            def on_step(report: Report) -> None:
                log(report)
                show(report)
                if until is not None and until(report):
                    raise _Judged

            try:
                attempt.ended = trainer.fit(self._data, checkpoint=checkpoint, on_step=on_step)
            except _Judged:
                pass
            except Stopped:
                trainer.save(checkpoint)
                raise

    @contextmanager
    def _logs(self, attempt: _Attempt) -> Iterator[Callable[[Report], None]]:
        """JSON Lines and TensorBoard of an attempt, written by the first process."""
        if not self._fabric.is_global_zero:
            yield lambda _: None
            return
        from training.logs import JsonLines, LatentUse, TensorBoard, latent_use

        some = self._some("train")

        def use() -> LatentUse:
            return latent_use(attempt.model, some)

        lines = self._folder.of_attempt("log.jsonl", attempt.number)
        board = self._folder.of_attempt("tensorboard", attempt.number)
        with ExitStack() as stack:
            logs = [
                stack.enter_context(JsonLines(lines, every=_LOGGED_EVERY, use=use)),
                stack.enter_context(TensorBoard(board, every=_LOGGED_EVERY, use=use)),
            ]

            def log(report: Report) -> None:
                for each in logs:
                    each(report)

            yield log

    @contextmanager
    def _shown(self, name: str, steps: int) -> Iterator[Callable[[Report], None]]:
        """Progress: a bar on a terminal, elsewhere a line for each tenth.

        Yields:
            A function to call after each step; it raises :class:`Stopped` after Ctrl-C.
        """
        from tools.progress import progress

        every = 0 if sys.stderr.isatty() else max(1, round(_SAID_EVERY * steps))
        with progress(name, steps, "steps") as advance:

            def show(report: Report) -> None:
                note = _note(report)
                advance(report.step, note)
                if every and report.step % every == 0:
                    self._say(f"{name}: step {report.step} of {steps}: {note}")
                if report.step < steps and self._stopped():
                    raise Stopped

            yield show

    # --- after

    def _diagnose(self, attempt: _Attempt) -> Diagnosis | None:
        """Folds and collapse, told from the training part: the test part chooses nothing."""
        from training.monitors import diagnose

        if len(self._data.train) < _FEWEST_DIAGNOSED:
            return None
        found = diagnose(attempt.model.eval(), self._fabric.to_device(self._some("train")))
        attempt.model.train()
        return found

    def _finish(
        self, attempt: _Attempt, diagnosis: Diagnosis | None, tried: int, stopped: str | None
    ) -> None:
        """Save, measure, say."""
        from trackvae.storage import save

        weights, model = self._folder.weights, attempt.model.cpu().eval()
        save(weights, model, self._plan.model)
        figures = self._measure(model) | {
            "beta": self._beta(attempt),
            "kappa": self._plan.kappa,
            "kappa_met_at": attempt.ended.kappa_met_at if attempt.ended is not None else None,
        }
        self._write(
            finished=True,
            plan=self._plan.to_dict(),
            figures=figures,
            diagnosis=None if diagnosis is None else _finite(asdict(diagnosis)),
            stopped=stopped,
            attempts=tried,
            kept=attempt.number,
            seconds=self._seconds(),
            versions=versions(_PACKAGES),
            machine=machine(),
        )
        for judged in self._folder.path.glob("judged*.safetensors"):
            judged.unlink()
        for line in _sentences(figures, diagnosis):
            self._say(line)
        self._say(f"{weights}; next: {self._look}")

    def _measure(self, model: VAE) -> dict[str, Any]:
        """Figures of the test part, or of what there is in its place."""
        part = measured_part(self._data)
        return summary(encode(model, self._some(part)), part)

    def _some(self, part: Part) -> Tensor:
        """Examples that are enough to measure with."""
        return observations(self._data, part, some_rows(self._data, part, _MEASURED))

    def _beta(self, attempt: _Attempt) -> float:
        """The last one; that of the schedule where this call made no step."""
        if attempt.ended is not None and math.isfinite(attempt.ended.beta):
            return attempt.ended.beta
        return float(getattr(attempt.schedule, "beta", 1.0))

    # --- together

    def _any(self, here: bool) -> bool:
        """Whether it is so in any process: all stop at one step."""
        if self._fabric.world_size == 1:
            return here
        import torch

        flag = self._fabric.to_device(torch.tensor(float(here)))
        together: Any = self._fabric.all_reduce(flag, reduce_op="sum")
        return bool(together > 0)

    def _seconds(self) -> float:
        """Of this call and of those before it."""
        return round(self._before + time.perf_counter() - self._start, 1)

    def _write(self, **entries: Any) -> None:
        if self._fabric.is_global_zero:
            self._folder.write(**entries)

    def _say(self, line: str) -> None:
        if self._fabric.is_global_zero:
            print(line, flush=True)


class _Judged(Exception):  # noqa: N818  (no error)
    """An attempt has come as far as it must to be judged."""


def _build(plan: Plan) -> VAE:
    """A model with fresh weights, drawn with the run's seed."""
    import torch

    from trackvae.config import build
    from training.restarts import quiet_means

    torch.manual_seed(plan.train.seed)
    model = build(plan.model)
    if plan.model.network == "mlp":  # the only one whose folds were counted
        quiet_means(model, plan.model.latent)
    return model


def _note(report: Report) -> str:
    error = math.sqrt(max(report.error, 0.0))
    return f"beta {report.phase.beta:.3g}, error {error:.3g}, rate {report.rate:.3g}"


def _sentences(figures: Mapping[str, Any], diagnosis: Diagnosis | None) -> list[str]:
    """What came out, in words."""
    kappa = figures["kappa"]
    beside = "" if kappa is None else f" (kappa {kappa:.4g})"
    return [
        f"beta {figures['beta']:.3g}; on {figures['count']} of {figures['part']}: error "
        f"{figures['error']:.4g}{beside}, rate {figures['rate']:.3g} nats",
        f"{figures['active_units']} of {figures['latent']} latent dimensions active"
        if diagnosis is None
        else diagnosis.sentence,
    ]


def _finite(value: Any) -> Any:
    """Plain values with None for what is no number, as JSON wants it."""
    if isinstance(value, dict):
        return {name: _finite(entry) for name, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
