"""What ``table-5.3`` tracks: sequences with their detections, described, learned from, scored."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np

from tools.embed import write_arrays
from tools.reproduce import pixel_encoders
from tools.reproduce.experiment import Context, made_sequence
from trackvae.archives import read_archive
from trackvae.arrays import BoolArray, FloatArray, IntArray, unit_length
from trackvae.errors import InputError

if TYPE_CHECKING:
    from tools.fit.learning import LearnOptions, Objects, Observed
    from tracker.calibration import Calibration
    from tracker.detections import Detections, Frame
    from tracker.io.mot import BoxTable
    from tracker.io.sources import Source
    from tracker.presets import TrackerConfig

Looks: TypeAlias = Literal[
    "supervised",
    "stripes",
    "whitened",
    "vae",
    "fmvae",
    "vhp-vae",
    "vhp-fmvae-300",
    "vhp-fmvae-3000",
    "vhp-fmvae-relative",
    "cosine-softmax",
]
CALIBRATED = 300  # frames, as trackvae track has it
WANTED = (
    "MOT17-09 FRCNN",
    "MOT17-09 SDP",
    "PETS09-S2L1",
    "TUD-Stadtmitte",
    "MOT16-09 DPM",
    "MOT16-09 YOLOX",
)
_JOINING = ("features", "whitened", "ridge", "rounds")  # options that the joining depends on
_QUICK_STEPS = 30


@dataclass(frozen=True)
class Case:
    """A sequence with one set of detections.

    Attributes:
        name: in the table.
        folder: of the frames.
        truth: its ``gt.txt``.
        detections: MOT text, ``.npz``, or a detector's ``.onnx``.
        supervised: whether the detections bring supervised features.
    """

    name: str
    folder: Path
    truth: Path
    detections: Path
    supervised: bool = False

    @property
    def slug(self) -> str:
        """Its name, for folders."""
        return self.name.replace(" ", "-")


def cases(context: Context) -> list[Case]:
    """What is held, what must be detected first at the end; a made scene where nothing is held."""
    root = context.source("mot")
    if root is None or context.quick:
        made = made_sequence(context)
        return [Case("made", made, made / "gt" / "gt.txt", made / "det" / "det.txt")]
    video = root / "MOT16-09"  # MOT17-09 is the same video, annotated anew
    other = context.data / "mot17"
    features, truth = other / "deepsort_features", other / "gt" / "MOT17-09" / "gt" / "gt.txt"
    every = [
        Case(f"MOT17-09 {name}", video, truth, features / f"MOT17-09-{name}.npz", True)
        for name in ("FRCNN", "SDP")
    ]
    own = {name: root / name for name in ("PETS09-S2L1", "TUD-Stadtmitte")}
    for name, folder in (own | {"MOT16-09 DPM": video}).items():
        every.append(Case(name, folder, folder / "gt" / "gt.txt", folder / "det" / "det.txt"))
    network = context.data.parent / "models" / "yolox_nano.onnx"
    every.append(Case("MOT16-09 YOLOX", video, video / "gt" / "gt.txt", network))
    return [case for case in every if _is_held(case)]


def _is_held(case: Case) -> bool:
    """Whether all its files are there, and what runs its detector."""
    import importlib.util

    files = case.truth.is_file() and case.detections.is_file() and case.folder.is_dir()
    runs = case.detections.suffix != ".onnx" or importlib.util.find_spec("onnxruntime") is not None
    return files and runs


def options(context: Context, seed: int, looks: Looks) -> LearnOptions:
    """How an encoder is learned: with flatness, or without."""
    from tools.fit.learning import LearnOptions

    made = LearnOptions(seed=seed) if looks == "fmvae" else LearnOptions(seed=seed, eta=0.0)
    return replace(made, steps=_QUICK_STEPS, batch_size=32) if context.quick else made


def _not_learned(folder: Path) -> Mapping[str, Any]:
    raise AssertionError(f"{folder}: the encoder is learned before it is asked how sure it is")


# --- what is computed of a case


@dataclass
class _Given:
    """Detections that are there already, as a detector."""

    table: BoxTable
    needs_image: bool = False
    names: dict[int, str] = field(default_factory=dict)

    def __call__(self, frame: Frame) -> Detections:
        return self.table.detections(frame.index)

    def reset(self) -> None:
        """Nothing: each frame is looked up on its own."""


class Opened:
    """A case whose boxes are detected, described and learned from once.

    Attributes:
        case: which.
        context: of the run.
        encoders: what was learned, plain values.
        pixel_encoders: those of pixels, likewise.
    """

    def __init__(self, context: Context, case: Case) -> None:
        from tracker.io.sources import open_frames

        self.context, self.case = context, case
        self.encoders: list[dict[str, Any]] = []
        self.pixel_encoders: list[dict[str, Any]] = []
        self._source: Source = open_frames(case.folder)
        self._about = {"case": case.name, "detections": case.detections.name}
        self._table = self._detected()
        self._features: FloatArray | None = None

    def part(
        self, name: str, settings: Mapping[str, Any], compute: Callable[[Path], Mapping[str, Any]]
    ) -> dict[str, Any]:
        """A part of this case; ``folder`` of its result is the name of its folder."""
        return self.context.part(
            f"{self.case.slug}-{name}",
            self._about | dict(settings),
            lambda folder: {"folder": folder.name, **compute(folder)},
        )

    def _arrays(self, part: Mapping[str, Any], file: str) -> dict[str, Any]:
        return read_archive(self.context.work / part["folder"] / file)

    def _detected(self) -> BoxTable:
        """The boxes; a detector goes through the frames once."""
        from tracker.detectors.file import FileDetector

        path = self.case.detections
        if path.suffix == ".onnx":
            part = self.part("detections", {"classes": "person"}, self._detect)
            path = self.context.work / part["folder"] / "detections.npz"
        table = FileDetector(path).table
        return table.select(table.frames <= (self._source.info.length or np.inf))

    def _detect(self, folder: Path) -> dict[str, Any]:
        from tracker.boxes import tlwh_from_xyxy
        from tracker.detectors import open_detector

        detector = open_detector(f"onnx:{self.case.detections}", classes="person", threads=1)
        seen = [(frame.index, detector(frame)) for frame in self._source]
        arrays = {
            "frame": np.concatenate([np.full(len(some), frame) for frame, some in seen]),
            "tlwh": tlwh_from_xyxy(np.concatenate([some.boxes for _, some in seen])),
            "score": np.concatenate([some.scores for _, some in seen]),
        }
        write_arrays(folder / "detections.npz", arrays)
        return {"detections": len(arrays["frame"])}

    def _described(self, name: str) -> FloatArray:
        """A descriptor of all boxes, ``(N, dim)``."""
        part = self.part(f"boxes-{name}", {"features": name}, lambda to: self._describe(to, name))
        return np.asarray(self._arrays(part, "features.npz")["feature"])

    def _describe(self, folder: Path, name: str) -> dict[str, Any]:
        from reid.descriptors import ColourStripes, by_name
        from tools.reid_eval.sequences import Boxes, describe

        boxes = Boxes(self._table.frames, self._table.boxes, self._table.ids)
        # Beside DeepSORT the stripes that trackvae track has; the others are to be learned from.
        descriptor = ColourStripes() if name == "stripes" else by_name(name)
        (features,) = describe(self._source, descriptor, [boxes])
        write_arrays(folder / "features.npz", {"feature": features.astype(np.float16)})
        return {"boxes": len(features), "dim": descriptor.dim}

    def looks(self, looks: Looks | None, seed: int) -> FloatArray | None:
        """Embeddings of all boxes by that descriptor."""
        if looks is None:
            return None
        if looks == "supervised":
            return self._table.embeddings
        if looks == "stripes":
            return self._described("stripes").astype(np.float32)
        if pixel_encoders.is_one(looks):
            return self._seen(looks, seed)
        chosen = options(self.context, seed, looks)
        if looks == "whitened":
            settings = {name: getattr(chosen, name) for name in _JOINING}
            part = self.part(looks, settings, lambda folder: self._whiten(folder, chosen))
            return np.asarray(self._arrays(part, "looks.npz")["feature"])
        part = self.part(
            f"{looks}-{seed}",
            {"learning": asdict(chosen)},
            lambda folder: self._learn(folder, chosen),
        )
        about = {key: value for key, value in part.items() if key != "folder"}
        if about not in self.encoders:
            self.encoders.append(about)
        return np.asarray(self._arrays(part, "looks.npz")["feature"])

    def _seen(self, looks: Looks, seed: int) -> FloatArray:
        """What an encoder of pixels says of all boxes; its lengths count as the thesis's do."""
        from tools.reid_eval.sequences import Boxes, describe

        video = self.case.folder.name

        def compute(folder: Path) -> dict[str, Any]:
            encoder = pixel_encoders.trained(self.context, looks, video, seed)
            boxes = Boxes(self._table.frames, self._table.boxes, self._table.ids)
            (features,) = describe(self._source, encoder.embedder, [boxes])
            write_arrays(folder / "looks.npz", {"feature": features})
            return {"encoder": {**encoder.made}}

        settings = pixel_encoders.settings_of(self.context, looks, video, seed)
        part = self.part(f"{looks}-{seed}", settings, compute)
        if part["encoder"] not in self.pixel_encoders:
            self.pixel_encoders.append(part["encoder"])
        return np.asarray(self._arrays(part, "looks.npz")["feature"])

    def _learned_from(self, chosen: LearnOptions) -> tuple[FloatArray, Observed]:
        """Features of all boxes, and those of them that motion links."""
        if self._features is None:
            self._features = self._described(chosen.features)
        return self._features, self._observed(self._features)

    def _whiten(self, folder: Path, chosen: LearnOptions) -> dict[str, Any]:
        """The linear map alone that an encoder starts from."""
        features, observed = self._learned_from(chosen)
        whitened = self._objects(observed, chosen).projection.apply(features)
        write_arrays(folder / "looks.npz", {"feature": unit_length(whitened)})
        return {"dim": whitened.shape[1]}

    def _learn(self, folder: Path, chosen: LearnOptions) -> dict[str, Any]:
        """Learn an encoder of the boxes that motion links, and embed all of them."""
        from tools.fit.learning import learn

        features, observed = self._learned_from(chosen)
        learned = learn([observed], chosen, objects=self._objects(observed, chosen), folder=folder)
        learned.encoder.save(folder / "encoder.safetensors")
        mean, _ = learned.encoder.posterior(features)
        write_arrays(folder / "looks.npz", {"feature": unit_length(mean)})
        about = {"case": self.case.name, "eta": chosen.eta, "seed": chosen.seed}
        return about | learned.made

    def _observed(self, features: FloatArray) -> Observed:
        """The boxes that motion alone links, as :func:`tools.fit.observe.observe` has them."""
        from tools.fit.learning import Observed

        rows, ids = self._linked()
        table = self._table
        return Observed(self.case.name, table.frames[rows], table.boxes[rows], ids, features[rows])

    def _linked(self) -> tuple[IntArray, IntArray]:
        """Rows of the boxes inside the frame that motion joins to tracks, and the tracks."""
        from tracker import Tracker
        from tracker.boxes import reaches_into

        info, table = self._source.info, self._table
        inside = reaches_into(table.boxes, info.width or np.inf, info.height or np.inf)
        motion = Tracker("sort", frame_rate=info.frame_rate or 30.0)
        ids = np.full(len(table), -1)
        for frame in range(1, table.last_frame + 1):
            seen, found = motion.update(table.detections(frame)).matched
            ids[table.rows(frame).start + seen] = found
        rows = np.flatnonzero((ids >= 0) & inside)
        return rows, ids[rows]

    def _objects(self, observed: Observed, chosen: LearnOptions) -> Objects:
        """The tracklets joined; the same for every encoder of the case."""
        from reid.projections import Projection
        from tools.fit.learning import Objects, join

        def compute(folder: Path) -> dict[str, Any]:
            found = join([observed], chosen)
            arrays = {"ids": found.ids, "mean": found.projection.mean}
            write_arrays(folder / "objects.npz", arrays | {"matrix": found.projection.matrix})
            return {"crops": len(found.ids)}

        settings = {name: getattr(chosen, name) for name in _JOINING}
        part = self.part("objects", settings, compute)
        found = self._arrays(part, "objects.npz")
        return Objects(found["ids"], Projection(found["mean"], found["matrix"]))

    def relinked(self, found: Mapping[str, Any], looks: Looks, seed: int) -> dict[str, Any]:
        """Scores of tracks that :meth:`scores` left behind, re-linked off-line by looks."""
        from tracker.linking import LinkOptions

        embeddings = self.looks(looks, seed)
        settings = {"tracks": found["folder"], "linking": asdict(LinkOptions())}
        name = f"relinked-{looks}-{seed}"
        return self.part(name, settings, lambda to: self._relink(to, found["folder"], embeddings))

    def _relink(self, folder: Path, tracked: str, embeddings: FloatArray | None) -> dict[str, Any]:
        from tracker.evaluation import evaluate
        from tracker.io.mot import read_boxes, write_boxes
        from tracker.relinking import relink, renamed

        tracks = read_boxes(self.context.work / tracked / "tracks.txt", unique_ids=True)
        names = relink(tracks, replace(self._table, embeddings=embeddings))
        path = folder / "tracks.txt"
        write_boxes(path, replace(tracks, ids=renamed(tracks.ids, names)))
        scores = evaluate({self.case.name: self.case.truth}, {self.case.name: path})
        return scores.combined.to_dict() | {"joined": len(names) - len(set(names.values()))}

    def scores(
        self,
        name: str,
        tracker: str,
        changes: Mapping[str, str],
        looks: Looks | None,
        seed: int,
        *,
        unsure: float = 0.0,
    ) -> dict[str, Any]:
        """Track with a preset, and score.

        Args:
            name: of the part.
            tracker: name of the preset.
            changes: of its settings.
            looks: what describes the boxes.
            seed: of what is learned.
            unsure: share of the crops, those that a learned encoder is least sure about, that no
                gallery takes up.
        """
        from tracker.presets import preset

        config = preset(tracker).with_settings(changes)
        settings: dict[str, Any] = {
            "preset": tracker,
            "settings": {key: str(value) for key, value in config.settings().items()},
            "looks": looks,
            "learning": None,
            "calibration_frames": CALIBRATED,
        }
        if looks in ("vae", "fmvae"):
            settings["learning"] = asdict(options(self.context, seed, looks))
        if looks is not None and pixel_encoders.is_one(looks):
            video = self.case.folder.name
            settings["learning"] = pixel_encoders.settings_of(self.context, looks, video, seed)
        embeddings, sure = self.looks(looks, seed), None
        if unsure:
            settings["unsure"] = unsure
            spread = self._spread(seed)
            sure = spread <= np.quantile(spread, 1 - unsure)
        return self.part(name, settings, lambda to: self._track(to, config, embeddings, sure))

    def _spread(self, seed: int) -> FloatArray:
        """How unsure the encoder that was learned with flatness is about each box, ``(N,)``."""
        from tools.reproduce.unsure import spread_of_direction
        from trackvae.appearance import read_appearance_model

        chosen = options(self.context, seed, "fmvae")
        part = self.part(f"fmvae-{seed}", {"learning": asdict(chosen)}, _not_learned)
        encoder = read_appearance_model(self.context.work / part["folder"] / "encoder.safetensors")
        features = self._described(chosen.features).astype(np.float32)
        return spread_of_direction(*encoder.posterior(features))

    def _track(
        self,
        folder: Path,
        config: TrackerConfig,
        embeddings: FloatArray | None,
        sure: BoolArray | None = None,
    ) -> dict[str, Any]:
        from tools.reproduce.unsure import SureTracker
        from tracker import Tracker
        from tracker.evaluation import evaluate
        from tracker.io.sinks import MotTextSink
        from tracker.pipeline import DetectedSource, follow, rehearse

        source = DetectedSource(self._source, _Given(replace(self._table, embeddings=embeddings)))
        calibration: Calibration | None = None
        if config.needs_calibration:
            source, collected = rehearse(source, config, None, frames=CALIBRATED)
            try:
                calibration = collected.fit()
            except InputError as error:
                self.context.say(f"{self.case.name}: not calibrated beforehand: {error}")
        rate = self._source.info.frame_rate or 30.0
        given: dict[str, Any] = {"calibration": calibration, "frame_rate": rate}
        tracker = Tracker(config, **given)
        if sure is not None:
            tracker = SureTracker(config, self._table, sure, **given)
        path = folder / "tracks.txt"
        follow(source, tracker, [MotTextSink(path)], need_images=False)
        found = evaluate({self.case.name: self.case.truth}, {self.case.name: path})
        return found.combined.to_dict() | {"calibration": str(calibration or "none")}
