"""``trackvae embed``: crops, or the boxes of a sequence, to embeddings in a file."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import tyro

from trackvae.errors import InputError, UsageError

if TYPE_CHECKING:
    from reid.descriptors import Descriptor
    from tracker.io.mot import BoxTable
    from tracker.io.sources import Source
    from trackvae.arrays import FloatArray, Image

Arrays: TypeAlias = Mapping[str, npt.NDArray[Any]]
_PEDESTRIAN = 1  # of MOT16's classes


@dataclass(frozen=True)
class Embed:
    """Embed crops, or the boxes of a MOT sequence: writes FILE.npz.

    Of a folder of images (and of folders of them) each image is one crop: arrays feature and name.
    Of a sequence: frame, tlwh, score, feature, with ground truth also id; trackvae track takes the
    file by --detections, trackvae gallery takes either.
    """

    source: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="IMAGES|SEQUENCE")]
    """A folder of crops, or a MOT sequence with images."""
    encoder: Annotated[str, tyro.conf.arg(metavar="E")]
    """default; weights of trackvae fit or train (or their
    folder, or a .onnx made of them); or a descriptor:
    colour-stripes, colour-stripes-hsv, gradients,
    colours-and-gradients, colours-and-shape, raw-pixels,
    backbone:NAME[:WEIGHTS]."""
    out: Annotated[Path, tyro.conf.arg(metavar="FILE")]
    """The .npz to write."""
    boxes: Literal["det", "gt"] = "det"
    """Of a sequence: detections, or ground truth (the
    pedestrians that count, with their identities)."""
    backend: Literal["torch", "onnx"] = "torch"
    """What computes a learned encoder."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Of a learned encoder, by torch."""
    threads: int = 1
    """Of a learned encoder."""

    def run(self) -> int:
        """Embed, write; the exit code."""
        from tracker.io.sinks import check_writable
        from tracker.io.sources import is_sequence

        if self.out.suffix.lower() != ".npz":
            raise UsageError(f"--out {self.out}: expected a name that ends in .npz")
        if not self.source.is_dir():
            raise InputError(f"{self.source}: no folder; expected crops or a MOT sequence")
        check_writable(self.out)
        name, descriptor = open_descriptor(
            self.encoder, backend=self.backend, precision=self.precision, threads=self.threads
        )
        start = time.perf_counter()
        if is_sequence(self.source):
            arrays = embed_sequence(self.source, descriptor, self.boxes)
        elif self.boxes == "gt":
            raise UsageError(f"{self.source}: a folder of images has no ground truth; see --boxes")
        else:
            arrays = embed_images(self.source, descriptor)
        seconds = time.perf_counter() - start
        about = {"encoder": name, "source": str(self.source.resolve())}
        write_arrays(self.out, {**arrays, **{key: np.array(text) for key, text in about.items()}})
        count, dim = arrays["feature"].shape
        print(f"{count} crops, {dim} numbers each, {count / max(seconds, 1e-9):.0f} crops/s")
        print(f"embeddings: {self.out}")
        return 0


def open_descriptor(name: str, **learned: Any) -> tuple[str, Descriptor]:
    """An encoder that needs nothing fitted, and its name as files carry it.

    Args:
        name: a path of weights or their folder, or a descriptor's name.
        **learned: settings of :class:`reid.embedder.Embedder`.

    Raises:
        InputError: weights that cannot be used.
        UsageError: there is no such encoder, or one that must be fitted first.
    """
    from reid.embedder import Embedder, encoder_name
    from tools.reid_eval.descriptors import Encoder, open_encoder
    from trackvae.appearance import encoder_file

    if name == "default" or Path(name).exists():
        weights = encoder_file(name)
        return encoder_name(weights), Embedder(weights, **learned)
    if name.partition(":")[0] in ("features", "pca", "whitened") or "whitened" in name:
        raise UsageError(
            f"encoder {name!r} is fitted to the sequence that is scored, or given with it: it is "
            "for trackvae reid-eval"
        )
    found = open_encoder(name)
    if not isinstance(found, Encoder) or found.fitted:
        raise UsageError(f"encoder {name!r} must be fitted first: it is for trackvae reid-eval")
    return name, found.descriptor


def embed_images(folder: Path, descriptor: Descriptor) -> Arrays:
    """Each image below a folder as one crop: ``feature`` (N, D), ``name`` (N,) below the folder.

    Raises:
        InputError: there are none, or one is broken.
    """
    from reid.market import Crops, sheets
    from tools.progress import progress
    from training.data.images import list_images

    paths = list_images(folder)
    if not paths:
        raise InputError(f"{folder}: no images in it, and no MOT sequence; see trackvae embed -h")
    nobody = np.full(len(paths), -1)
    features = [np.zeros((0, descriptor.dim), np.float32)]
    done = 0
    with progress(folder.name, len(paths), "crops") as advance:
        for image, boxes in sheets(Crops(tuple(paths), nobody, nobody)):
            features.append(descriptor(image, boxes))
            done += len(boxes)
            advance(done)
    names = [path.relative_to(folder).as_posix() for path in paths]
    return {"feature": np.concatenate(features), "name": np.array(names)}


def embed_sequence(folder: Path, descriptor: Descriptor, boxes: Literal["det", "gt"]) -> Arrays:
    """The boxes of a MOT sequence: ``frame, tlwh, score, feature``, with ground truth ``id``.

    Raises:
        InputError: no images or no such boxes, or a frame of another size than the first.
    """
    from tools.reid_eval.sequences import Boxes, describe
    from tracker.boxes import tlwh_from_xyxy
    from tracker.io.sources import open_frames

    source = open_frames(folder)
    table = _boxes(source, boxes)
    of_one_size = _OneSize(descriptor, str(folder))
    (features,) = describe(source, of_one_size, [Boxes(table.frames, table.boxes, table.ids)])
    arrays: dict[str, npt.NDArray[Any]] = {
        "frame": table.frames,
        "tlwh": tlwh_from_xyxy(table.boxes),
        "score": table.scores,
        "class": table.classes,
        "feature": features,
    }
    return arrays | ({"id": table.ids} if boxes == "gt" else {})


def _boxes(source: Source, boxes: Literal["det", "gt"]) -> BoxTable:
    """The rows that are embedded, frames ascending."""
    from tracker.io.mot import read_boxes

    path = source.detections_path if boxes == "det" else source.ground_truth_path
    if path is None:
        raise InputError(f"{source.path}: no {boxes}/{boxes}.txt in it, so there are no boxes")
    table = read_boxes(path)
    if boxes == "gt":
        table = table.select((table.scores > 0) & np.isin(table.classes, (-1, _PEDESTRIAN)))
    if source.info.length:
        table = table.select(table.frames <= source.info.length)
    if not len(table):
        raise InputError(f"{path}: no boxes in it to embed")
    return table


class _OneSize:
    """A descriptor that refuses a frame of another size than the first: its boxes would lie."""

    def __init__(self, descriptor: Descriptor, where: str) -> None:
        self.dim = descriptor.dim
        self._descriptor, self._where = descriptor, where
        self._shape: tuple[int, ...] | None = None

    def __call__(self, image: Image, boxes: FloatArray) -> FloatArray:
        self._shape = self._shape or image.shape
        if image.shape != self._shape:
            (height, width), (first_height, first_width) = image.shape[:2], self._shape[:2]
            raise InputError(
                f"{self._where}: a frame has {width} x {height} pixels, those before it "
                f"{first_width} x {first_height}"
            )
        return self._descriptor(image, boxes)


def write_arrays(path: Path, arrays: Arrays) -> None:
    """Write an ``.npz``, whole or not at all.

    Raises:
        InputError: it cannot be written.
    """
    from trackvae.files import atomic_path, write_errors

    with atomic_path(path) as temporary, write_errors(path), temporary.open("wb") as file:
        np.savez(file, **dict(arrays))  # type: ignore[arg-type]
