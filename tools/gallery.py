"""``trackvae gallery``: a store of known crops on disk, and who a crop most resembles."""

from __future__ import annotations

import json as json_format
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
import tyro
from tyro.conf import Positional, arg

from tools.embeddings import Embedded, IdsFrom, Place, crops_at, read_embedded
from tools.flags import open_flag
from trackvae.errors import InputError, UsageError
from trackvae.files import write_text

if TYPE_CHECKING:
    from reid.gallery import Gallery

_SHOWN = 10  # rank lists in a picture
_Given = Annotated[Path, Positional, arg(metavar="EMBEDDINGS")]
_Opened = Annotated[Path, Positional, arg(metavar="GALLERY")]


@dataclass(frozen=True)
class Build:
    """Make a gallery of embedded crops; GALLERY is replaced whole."""

    embeddings: _Given
    """An .npz of trackvae embed."""
    out: Annotated[Path, arg(metavar="GALLERY")]
    """The .npz to write."""
    kind: Literal["exact", "hnsw", "ivf-pq"] = "exact"
    """Of the index; the others pay from 100,000 crops on."""
    metric: Literal["euclidean", "cosine"] = "euclidean"
    """Between embeddings."""
    most_per_id: Annotated[int | None, open_flag("INT")] = None
    """Crops kept of one identity, the newest; all if left out."""
    ids: IdsFrom = "auto"
    """Where identities come from: the file's own labels, the
    folder of a crop, or its file's name up to the first _
    (0002_c1s1.jpg: 0002). auto: the first of them that is there."""

    def run(self) -> int:
        """Build, save; the exit code."""
        from reid.gallery import Gallery

        _check_faiss()
        given = _with_identities(self.embeddings, self.ids)
        gallery = Gallery(
            given.features.shape[1],
            kind=self.kind,
            metric=self.metric,
            most_per_id=self.most_per_id,
            encoder=given.encoder,
        )
        _add(gallery, given, self.out)
        gallery.save(self.out)
        _tell(gallery, self.out)
        return 0


@dataclass(frozen=True)
class Add:
    """Add embedded crops to a gallery; stopped at any time, it is as before or holds them all."""

    gallery: _Opened
    """What trackvae gallery build wrote."""
    embeddings: _Given
    """An .npz of trackvae embed, by the same encoder."""
    ids: IdsFrom = "auto"
    """Where identities come from, as for build."""

    def run(self) -> int:
        """Add, save; the exit code."""
        gallery = _open(self.gallery)
        _add(gallery, _with_identities(self.embeddings, self.ids), self.gallery)
        gallery.save(self.gallery)
        _tell(gallery, self.gallery)
        return 0


@dataclass(frozen=True)
class Remove:
    """Take all crops of identities out of a gallery."""

    gallery: _Opened
    """What trackvae gallery build wrote."""
    ids: Annotated[tuple[str, ...], Positional, arg(metavar="ID...")]
    """Identities, as search shows them."""

    def run(self) -> int:
        """Remove, save; the exit code."""
        gallery = _open(self.gallery)
        numbers = _numbers(gallery)
        if not self.ids:
            raise UsageError("no identity given; see trackvae gallery remove --help")
        unknown = [name for name in self.ids if name not in numbers]
        if unknown:
            raise InputError(f"{self.gallery}: nobody in it is called {unknown[0]}")
        count = gallery.remove(np.array([numbers[name] for name in self.ids], np.int64))
        gallery.save(self.gallery)
        print(f"{count} crops removed")
        _tell(gallery, self.gallery)
        return 0


@dataclass(frozen=True)
class Search:
    """Say for each embedded crop whom in a gallery it resembles most.

    One line a crop: identities and distances, nearest first. A crop that is in the gallery itself
    is no answer to itself.
    """

    gallery: _Opened
    """What trackvae gallery build wrote."""
    embeddings: _Given
    """An .npz of trackvae embed, by the same encoder."""
    k: int = 5
    """Answers for each crop."""
    json: Annotated[Path | None, open_flag("FILE")] = None
    """Also write the answers to this file."""
    picture: Annotated[Path | None, open_flag("FILE.png")] = None
    """Also draw rank lists; a frame is green where the answer is
    right, red where wrong, grey where nobody knows."""
    rows: int = _SHOWN
    """Rank lists in the picture at most, evenly over the crops."""
    ids: IdsFrom = "auto"
    """Where the crops' true identities come from, as for build."""

    def run(self) -> int:
        """Search, show; the exit code."""
        if self.k < 1 or self.rows < 1:
            raise UsageError(f"--k is {self.k}, --rows {self.rows}; expected 1 or more")
        if self.picture is not None and self.picture.suffix.lower() != ".png":
            raise UsageError(f"--picture {self.picture}: expected a name that ends in .png")
        gallery = _open(self.gallery)
        if not len(gallery):
            raise InputError(f"{self.gallery}: an empty gallery; see trackvae gallery add")
        given = read_embedded(self.embeddings, self.ids)
        _check(gallery, given, self.gallery)
        found = _answers(gallery, given, self.k)
        for answers in found:
            told = ", ".join(f"{one.identity} {one.distance:.4g}" for one in answers.nearest)
            print(f"{answers.query.place.shown}: {told}")
        known = [answers for answers in found if answers.query.known]
        right = sum(answers.right(0) is True for answers in known)
        if known:
            print(
                f"nearest is right: {right} of {len(known)} crops of somebody in the gallery "
                f"({100 * right / len(known):.1f}%)"
            )
        if self.json is not None:
            content = _content(self, gallery, given, found)
            write_text(self.json, json_format.dumps(content, indent=1) + "\n")
            print(f"answers: {self.json}")
        if self.picture is not None:
            _draw(self.picture, found, self.rows)
            print(f"picture: {self.picture}")
        return 0


@dataclass(frozen=True)
class GalleryCommand:
    """Keep known crops, and find whom a crop resembles most."""

    action: Annotated[
        Annotated[Build, tyro.conf.subcommand("build")]
        | Annotated[Add, tyro.conf.subcommand("add")]
        | Annotated[Remove, tyro.conf.subcommand("remove")]
        | Annotated[Search, tyro.conf.subcommand("search")],
        tyro.conf.OmitSubcommandPrefixes,
        tyro.conf.OmitArgPrefixes,
    ]

    def run(self) -> int:
        """Do it; the exit code."""
        return self.action.run()


# --- entries


@dataclass(frozen=True, slots=True)
class _Query:
    """A crop that is looked for: where it is, whose it is, whether the gallery knows them."""

    place: Place
    identity: str | None
    known: bool


@dataclass(frozen=True, slots=True)
class _Answer:
    """One entry of a gallery, and how far it is."""

    identity: str
    distance: float
    place: Place


@dataclass(frozen=True, slots=True)
class _Answers:
    """What was found for a query, nearest first."""

    query: _Query
    nearest: list[_Answer]

    def right(self, rank: int) -> bool | None:
        """Whether that answer shows whom the query shows; None: not known, or no such answer."""
        if not self.query.known or rank >= len(self.nearest):
            return None
        return self.nearest[rank].identity == self.query.identity


def _open(path: Path) -> Gallery:
    from reid.gallery import Gallery

    _check_faiss()
    return Gallery.load(path)


def _check_faiss() -> None:
    """Say what to install where the package that searches is missing.

    Raises:
        InputError: it is.
    """
    try:
        import faiss  # noqa: F401
    except ImportError as error:
        raise InputError(
            f"trackvae gallery needs FAISS ({error}): pip install faiss-cpu"
        ) from error


def _note(identity: str, place: Place) -> str:
    """What is kept with an entry: who it is called, and where its crop is."""
    return json_format.dumps([identity, *place.to_list()], ensure_ascii=False)


def _read_note(note: str, number: int) -> tuple[str, Place]:
    """The inverse; galleries that other programs made have none."""
    try:
        identity, *place = json_format.loads(note)
        return str(identity), Place.of(place)
    except (ValueError, TypeError):
        return str(number), Place("", f"entry of {number}")


def _numbers(gallery: Gallery) -> dict[str, int]:
    """The number of each identity that the gallery knows, by its name."""
    ids, first = np.unique(gallery.ids, return_index=True)
    notes = gallery.notes[first].tolist()
    return {
        _read_note(note, int(number))[0]: int(number)
        for number, note in zip(ids, notes, strict=True)
    }


def _with_identities(path: Path, ids_from: IdsFrom) -> Embedded:
    given = read_embedded(path, ids_from)
    if given.identities is None:
        raise InputError(
            f"{path}: its boxes have no identities; embed --boxes gt, or crops in folders that are "
            "called as who they show"
        )
    return given


def _check(gallery: Gallery, given: Embedded, path: Path) -> None:
    """Refuse embeddings that another encoder made.

    Raises:
        InputError: their dimension or the encoder's name differs.
    """
    dim, mine = given.features.shape[1], gallery.encoder
    if dim != gallery.dim:
        raise InputError(
            f"{given.path}: embeddings of {dim} dimensions by {given.encoder or 'another encoder'},"
            f" but {path} has {gallery.dim}{f' by {mine}' if mine else ''}; embed with its encoder"
        )
    if mine and given.encoder and mine.split()[-1] != given.encoder.split()[-1]:
        raise InputError(
            f"{given.path}: embeddings by {given.encoder}, but {path} is of {mine}; their "
            "distances mean nothing: embed with its encoder"
        )


def _add(gallery: Gallery, given: Embedded, path: Path) -> None:
    """Put the crops in, each with its note; new identities get the next numbers."""
    _check(gallery, given, path)
    assert given.identities is not None
    numbers = _numbers(gallery)
    following = max(numbers.values(), default=-1) + 1
    for name in given.identities:
        if name not in numbers:
            numbers[name], following = following, following + 1
    ids = np.array([numbers[name] for name in given.identities], np.int64)
    notes = [_note(name, at) for name, at in zip(given.identities, given.places, strict=True)]
    gallery.add(given.features, ids, notes)


def _tell(gallery: Gallery, path: Path) -> None:
    people = len(np.unique(gallery.ids))
    print(f"{path}: {len(gallery)} crops of {people} identities, {gallery.dim} dimensions")


# --- answers


def _answers(gallery: Gallery, given: Embedded, k: int) -> list[_Answers]:
    """The k nearest entries of each crop; never the crop itself."""
    notes, numbers = gallery.notes, gallery.ids
    names = _numbers(gallery)
    matches = gallery.search(given.features, k + 1)  # one more: it may be the crop itself
    found = []
    for row, place in enumerate(given.places):
        identity = None if given.identities is None else given.identities[row]
        nearest = []
        near = zip(matches.places[row].tolist(), matches.distances[row].tolist(), strict=True)
        for entry, distance in near:
            if entry >= 0:
                name, where = _read_note(str(notes[entry]), int(numbers[entry]))
                if where != place:
                    nearest.append(_Answer(name, max(distance, 0.0), where))
        found.append(_Answers(_Query(place, identity, identity in names), nearest[:k]))
    return found


def _content(
    command: Search, gallery: Gallery, given: Embedded, found: Sequence[_Answers]
) -> dict[str, Any]:
    """The answers for JSON."""
    return {
        "gallery": str(command.gallery),
        "embeddings": str(given.path),
        "encoder": given.encoder,
        "metric": gallery.metric,
        "queries": [
            {
                "crop": answers.query.place.shown,
                "id": answers.query.identity if answers.query.known else None,
                "answers": [
                    {"id": one.identity, "distance": one.distance, "crop": one.place.shown}
                    for one in answers.nearest
                ],
            }
            for answers in found
        ],
    }


def _draw(path: Path, found: Sequence[_Answers], most: int) -> None:
    """Rank lists of some queries, evenly over all."""
    from reid.pictures import RankList, Tile, draw_rank_lists

    rows = np.unique(np.linspace(0, len(found) - 1, min(most, len(found))).round().astype(int))
    chosen = [found[row] for row in rows]
    wanted = {one.place for each in chosen for one in each.nearest}
    crops = crops_at(wanted | {each.query.place for each in chosen})
    if not crops:
        raise InputError(
            f"{path}: nothing to draw: the images that were embedded are not where they were "
            f"({chosen[0].query.place.source})"
        )
    lists = []
    for each in chosen:
        shown = (each.query.identity or "") if each.query.known else ""
        query = Tile(crops.get(each.query.place), ("query", shown), None)
        answers = [
            Tile(crops.get(one.place), (one.identity, f"{one.distance:.3g}"), each.right(rank))
            for rank, one in enumerate(each.nearest)
        ]
        lists.append(RankList(query, answers))
    draw_rank_lists(path, lists)
