"""Files of ``trackvae embed`` as crops: what each is called, whose it is, where its picture is."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from trackvae.archives import read_archive
from trackvae.arrays import FloatArray, Image
from trackvae.errors import InputError

IdsFrom: TypeAlias = Literal["auto", "labels", "folder", "file"]


@dataclass(frozen=True, slots=True)
class Place:
    """Where a crop is.

    Attributes:
        source: the folder of images, or the sequence's.
        name: of an image below the folder; of a box "".
        frame: of a box, from 1; 0 of an image.
        tlwh: of a box, pixels.
    """

    source: str
    name: str = ""
    frame: int = 0
    tlwh: tuple[float, ...] = ()

    @property
    def shown(self) -> str:
        """For people."""
        if not self.frame:
            return self.name
        box = ",".join(f"{side:g}" for side in self.tlwh)
        return f"{Path(self.source).name} frame {self.frame} at {box}"

    def to_list(self) -> list[Any]:
        """Plain values, for JSON."""
        return [self.source, self.name, self.frame, *self.tlwh]

    @classmethod
    def of(cls, values: Sequence[Any]) -> Place:
        """The inverse of :meth:`to_list`."""
        source, name, frame, *tlwh = values
        return cls(str(source), str(name), int(frame), tuple(float(side) for side in tlwh))


@dataclass(frozen=True, slots=True, eq=False)
class Embedded:
    """Crops as vectors.

    Attributes:
        path: the file.
        features: (N, D), N at least 1.
        places: of the N crops.
        identities: N names; None where nothing says whose they are.
        encoder: its name; "" where the file does not say.
    """

    path: Path
    features: FloatArray
    places: list[Place]
    identities: list[str] | None
    encoder: str


def read_embedded(path: Path, ids_from: IdsFrom = "auto") -> Embedded:
    """Read what ``trackvae embed`` wrote.

    Args:
        path: an ``.npz`` with ``feature``, and ``name`` or ``frame`` and ``tlwh``; its identities
            in ``id``, if there.
        ids_from: ``labels`` are the array ``id`` (of a sequence ``sequence/id``, since another
            sequence's 7 is somebody else); ``folder`` is the first folder in a crop's name;
            ``file`` its file's name up to the first ``_``. ``auto`` takes the first that is there.

    Raises:
        InputError: no such file, or not one of embeddings, or it has no identities of that kind.
    """
    arrays = read_archive(path, writer="trackvae embed")
    features = arrays.get("feature", np.zeros(0))
    if features.ndim != 2 or features.dtype.kind != "f":
        raise InputError(f"{path}: no array feature (N, D) of numbers; trackvae embed writes one")
    if not len(features):
        raise InputError(f"{path}: no embeddings in it")
    if not np.isfinite(features).all():
        raise InputError(f"{path}: its embeddings hold NaN or infinity")
    places = _places(path, arrays, len(features))
    encoder = str(arrays["encoder"]) if "encoder" in arrays else ""
    identities = _identities(path, arrays, places, ids_from)
    return Embedded(path, features.astype(np.float32), places, identities, encoder)


def _places(path: Path, arrays: Mapping[str, npt.NDArray[Any]], count: int) -> list[Place]:
    source = str(arrays["source"]) if "source" in arrays else ""
    if "name" in arrays and arrays["name"].shape == (count,):
        return [Place(source, str(name)) for name in arrays["name"].tolist()]
    frame, tlwh = arrays.get("frame", np.zeros(0)), arrays.get("tlwh", np.zeros(0))
    if frame.shape != (count,) or tlwh.shape != (count, 4):
        raise InputError(
            f"{path}: neither the names of {count} crops nor frames and boxes (tlwh); trackvae "
            "embed writes them"
        )
    boxes = zip(frame.tolist(), tlwh.tolist(), strict=True)
    return [Place(source, "", int(f), tuple(float(side) for side in box)) for f, box in boxes]


def _identities(
    path: Path,
    arrays: Mapping[str, npt.NDArray[Any]],
    places: Sequence[Place],
    ids_from: IdsFrom,
) -> list[str] | None:
    """Who is in each crop, or None."""
    named = [PurePosixPath(place.name) for place in places if not place.frame]
    in_folders = bool(named) and all(len(name.parts) > 1 for name in named)
    if "id" in arrays and ids_from in ("auto", "labels"):
        labels = arrays["id"]
        if labels.shape != (len(places),):
            raise InputError(f"{path}: {labels.shape} identities for {len(places)} embeddings")
        before = [f"{Path(place.source).name}/" if place.frame else "" for place in places]
        return [f"{start}{label}" for start, label in zip(before, labels.tolist(), strict=True)]
    if in_folders and ids_from in ("auto", "folder"):
        return [name.parts[0] for name in named]
    if named and ids_from in ("auto", "file"):
        return [name.stem.partition("_")[0] or name.stem for name in named]
    if ids_from == "auto":
        return None
    wanted = {"labels": "array id", "folder": "folder above each crop", "file": "names of files"}
    raise InputError(f"{path}: it has no {wanted[ids_from]}, so --ids {ids_from} says nothing")


def crops_at(places: Collection[Place]) -> dict[Place, Image]:
    """The pictures of crops, those that are still there; each frame is read once.

    Raises:
        InputError: a source is there, but damaged.
    """
    found: dict[Place, Image] = {}
    for source in {place.source for place in places}:
        folder = Path(source)
        if not source or not folder.is_dir():
            continue
        here = [place for place in places if place.source == source]
        found |= _images(folder, [place for place in here if not place.frame])
        found |= _boxes(folder, [place for place in here if place.frame])
    return found


def _images(folder: Path, places: Sequence[Place]) -> dict[Place, Image]:
    from trackvae.images import read_image

    there = [place for place in places if (folder / place.name).is_file()]
    return {place: read_image(folder / place.name) for place in there}


def _boxes(folder: Path, places: Sequence[Place]) -> dict[Place, Image]:
    """Boxes cut out of a sequence's frames, read up to the last that is wanted."""
    if not places:
        return {}
    from reid.crops import whole_pixels
    from tracker.boxes import xyxy_from_tlwh
    from tracker.io.sources import open_frames

    found: dict[Place, Image] = {}
    last = max(place.frame for place in places)
    for frame in open_frames(folder):
        if frame.image is not None:
            height, width = frame.image.shape[:2]
            for place in places:
                if place.frame == frame.index:
                    box = xyxy_from_tlwh(np.array([place.tlwh]))
                    left, top, right, bottom = whole_pixels(box, width, height)[0].tolist()
                    found[place] = frame.image[top:bottom, left:right].copy()
        if frame.index >= last:
            break
    return found
