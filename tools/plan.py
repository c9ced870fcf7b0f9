"""``trackvae plan``: a movement from one observation to another, along the geodesic."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
import tyro
from tyro.conf import OmitArgPrefixes, arg

from tools.data import DataFlags, open_data
from tools.flags import check_seed, open_flag
from tools.train.machine import check_torch
from trackvae.archives import read_archive
from trackvae.arrays import FloatArray
from trackvae.errors import InputError, UsageError
from trackvae.files import atomic_path, write_errors, write_text
from trackvae.images import IMAGE_SUFFIXES, read_image

if TYPE_CHECKING:
    from training.data import DataSet
    from training.data.dataset import Standardisation
    from training.geodesics.plan import Movement

_SUFFIXES = (".npz", ".csv")
_SHOWN = 12  # frames of the picture


@dataclass(frozen=True)
class Plan:
    """Plan a movement between two observations: the geodesic between their encodings, decoded.

    Writes the trajectory (FILE.npz: t, z, x, velocity, method and more; FILE.csv: a line a step)
    and a picture beside it, with the velocity profile. An observation is an image, a .npy, an .npz
    with one array, or a .csv with one line of numbers.
    """

    weights: Annotated[Path, tyro.conf.Positional, arg(metavar="WEIGHTS")]
    """model.safetensors of trackvae train, or its folder."""
    start: Annotated[Path, arg(metavar="FILE")]
    """The observation to begin with."""
    goal: Annotated[Path, arg(metavar="FILE")]
    """The one to arrive at."""
    steps: int = 50
    """Of the movement, both ends included."""
    out: Annotated[Path, arg(metavar="FILE")] = Path("plan.npz")
    """The .npz or .csv to write; the picture is FILE.png."""
    data: Annotated[str | None, open_flag("DATA")] = None
    """What was trained on, as for trackvae train: the
    movement then keeps to its encodings, and vectors are in
    its own units. Left out: samples of the prior, and
    vectors as the model takes them (standardised)."""
    method: Literal["data", "variance", "shortest", "spline", "network"] = "data"
    """data: on the graph of encodings, never off what was
    seen; variance: the shortest curve where the decoder's
    variance counts too, which grows off DATA; shortest: the
    shortest of all, begun on the graph; spline: the same,
    smoother; network: as the thesis."""
    nodes: int = 2000
    """Of the graph, at most."""
    neighbours: int = 12
    """Of its nodes."""
    smoothing: float = 0.0
    """Of the metric tensor (Eq. 5.10), as a multiple of what
    it is at the nodes; not of --method data."""
    seed: int = 0
    """Of the prior's samples and the data's split."""
    taken: Annotated[OmitArgPrefixes[DataFlags], arg(name="data")] = field(
        default_factory=DataFlags
    )

    def run(self) -> int:
        """Plan, write; the exit code."""
        check_torch("plan")
        import torch

        from trackvae.storage import load
        from training.geodesics.plan import PlanOptions, plan_movement

        check_seed(self.seed)
        if self.out.suffix.lower() not in _SUFFIXES:
            raise UsageError(f"--out {self.out}: expected a name that ends in .npz or .csv")
        options = PlanOptions(self.method, self.nodes, self.neighbours, self.smoothing, self.seed)
        weights = self.weights / "model.safetensors" if self.weights.is_dir() else self.weights
        picture = self.out.with_suffix(".png")
        self._check_written(weights, picture)
        model, config = load(weights)
        model.requires_grad_(False)
        data = self._open(config.observation, weights)
        scale = None if data is None else data.standardisation
        start, goal = (
            torch.from_numpy(read_observation(path, config.observation, scale))
            for path in (self.start, self.goal)
        )
        if self.method == "variance" and data is None:
            raise UsageError("--method variance needs --data: it is long to go where these are not")
        known = None if data is None else torch.from_numpy(data.values("train"))
        try:
            movement = plan_movement(model, start, goal, self.steps, known, options)
        except UsageError:
            raise
        except InputError as error:
            raise InputError(f"{self.start} to {self.goal}: {error}") from error
        with atomic_path(picture) as drawn, write_errors(picture):
            draw_movement(drawn, movement, standardised=scale is not None)
            write_movement(self.out, movement, scale)  # last: it never stands without its picture
        self._say(movement, picture)
        return 0

    def _check_written(self, weights: Path, picture: Path) -> None:
        """Refuse to write over what is read, and what cannot be written, before all the work.

        Raises:
            UsageError: the trajectory or the picture would take the place of an input.
            InputError: a folder is in the place of either.
        """
        given = {"--start": self.start, "--goal": self.goal, "the weights": weights}
        if self.data is not None:
            given["--data"] = Path(self.data)
        for path in (self.out, picture):
            for name, source in given.items():
                inside = source.is_dir() and path.exists() and _lies_in(path, source)
                if inside or _same_file(path, source):
                    beside = "" if path == self.out else f"its picture {path} "
                    raise UsageError(
                        f"--out {self.out}: {beside}would overwrite {name}"
                        f"{f' ({source})' if inside else ''}; take another name"
                    )
            if path.is_dir():
                raise InputError(f"{path}: cannot be written, it is a folder")

    def _say(self, movement: Movement, picture: Path) -> None:
        found = movement.geodesic
        for note in movement.notes:
            print(f"note: {note}")
        counted = " with the variance" if self.method == "variance" else ""
        print(
            f"{self.steps} steps, length{counted} {float(found.length[0]):.4g} "
            f"(straight line {float(found.straight[0]):.4g}), {movement.ended}"
        )
        print(f"{self.out}; {picture}")

    def _open(self, shape: tuple[int, ...], weights: Path) -> DataSet | None:
        """DATA, if it is given.

        Raises:
            InputError: its examples are not of the model's shape.
        """
        if self.data is None:
            return None
        data = open_data(self.data, self.taken, self.seed)
        if data.shape != shape:
            raise InputError(
                f"{self.data}: its examples have shape {data.shape}, those of {weights} {shape}"
            )
        return data


def _same_file(path: Path, other: Path) -> bool:
    """By whatever names, links and letters' case."""
    if path.exists() and other.exists():
        return path.samefile(other)
    return path.resolve() == other.resolve()


def _lies_in(path: Path, folder: Path) -> bool:
    return folder.resolve() in path.resolve().parents


def read_observation(
    path: Path, shape: tuple[int, ...], scale: Standardisation | None = None
) -> npt.NDArray[np.float32]:
    """One observation as the model takes it.

    Args:
        path: an image (for a model of images; pixels become [0, 1]), a ``.npy``, an ``.npz`` with
            one array, a ``.csv`` or ``.txt`` with as many numbers as the observation has.
        shape: of the model's observation.
        scale: of vectors in their own units.

    Returns:
        float32 of that shape.

    Raises:
        InputError: missing, damaged, not finite, or of another size; with the file's name.
    """
    suffix = path.suffix.lower()
    if path.is_dir():
        raise InputError(f"{path}: is a folder, expected an image or a file of numbers")
    if suffix in IMAGE_SUFFIXES:
        if len(shape) != 3:
            raise InputError(f"{path}: an image, but the model takes {shape[0]} numbers")
        pixels = read_image(path, colour=shape[0] == 3)
        values = pixels.transpose(2, 0, 1).astype(np.float64) / 255
    elif suffix == ".npz":
        arrays = read_archive(path)
        if len(arrays) != 1:
            raise InputError(f"{path}: {len(arrays)} arrays, expected one observation")
        values = next(iter(arrays.values()))
    elif suffix in (".npy", ".csv", ".txt"):
        values = _numbers(path)
    else:
        raise InputError(f"{path}: a {suffix or 'nameless'} file, expected an image or numbers")
    if values.dtype.kind not in "fiub" or values.size != int(np.prod(shape)):
        raise InputError(
            f"{path}: {values.dtype} {values.shape}, expected numbers of shape {shape}"
        )
    values = values.reshape(shape).astype(np.float64)
    if not np.isfinite(values).all():
        raise InputError(f"{path}: holds NaN or infinity")
    return (values if scale is None else scale.apply(values)).astype(np.float32)


def _numbers(path: Path) -> npt.NDArray[Any]:
    try:
        if path.suffix.lower() == ".npy":
            with path.open("rb") as file:
                return np.asarray(np.lib.format.read_array(file, allow_pickle=False))
        text = path.read_text(encoding="utf-8").replace(",", " ").split()
        return np.array([float(word) for word in text])
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file") from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error})") from error
    except ValueError as error:
        said = " ".join(str(error).split())
        raise InputError(f"{path}: not an observation ({said})") from error


def write_movement(path: Path, movement: Movement, scale: Standardisation | None = None) -> None:
    """The trajectory as ``.npz`` or ``.csv``, whole or not at all.

    A line of the CSV is ``t, velocity, z_1.., x_1..``; phi is that of the step to the next line,
    and of the last line that of the step before. Velocity and lengths are in the units in which
    the model takes x, also where x itself is in its own (``units`` of the NPZ says which).

    Args:
        path: which of the two its suffix says.
        movement: to write.
        scale: of vectors in their own units.

    Raises:
        InputError: it cannot be written.
    """
    z = movement.latents.numpy()
    x: FloatArray = movement.observations.numpy().astype(np.float64)
    if scale is not None:
        x = scale.undo(x)
    t, speed = np.linspace(0, 1, len(z)), movement.velocity.numpy()
    if path.suffix.lower() == ".csv":
        flat = x.reshape(len(x), -1)
        names = ["t", "velocity", *(f"z{i + 1}" for i in range(z.shape[1]))]
        names += [f"x{i + 1}" for i in range(flat.shape[1])]
        table = np.column_stack([t, np.append(speed, speed[-1:]), z, flat])
        lines = [",".join(f"{value:.9g}" for value in line) for line in table]
        write_text(path, "\n".join([",".join(names), *lines]) + "\n")
        return
    found = movement.geodesic
    arrays: dict[str, npt.NDArray[Any]] = {
        "t": t,
        "z": z,
        "x": x.astype(np.float32),
        "velocity": speed,
        "length": found.length.numpy()[0],
        "latent_length": found.latent_length.numpy()[0],
        "straight": found.straight.numpy()[0],
        "residual": found.residual.numpy()[0],
        "iterations": found.steps.numpy()[0],
        "outcome": np.array(movement.ended),
        "method": np.array(movement.method),
        "units": np.array(
            "x as the model takes it"
            if scale is None
            else "x in its own units; velocity, length, straight by x standardised"
        ),
        "notes": np.array(movement.notes, dtype=np.str_),
    }
    with atomic_path(path) as temporary, write_errors(path), temporary.open("wb") as file:
        np.savez(file, allow_pickle=False, **arrays)


def draw_movement(path: Path, movement: Movement, *, standardised: bool = False) -> None:
    """The way through the latent space, the velocity, and what is decoded.

    Args:
        path: of the PNG.
        movement: to draw.
        standardised: what is decoded is so, and the picture is to say it.
    """
    from tools.reproduce.latent_figures import new_figure, save_figure

    figure, axes = new_figure(1, 3, (13, 3.9))
    _draw_latents(axes[0, 0], movement)
    speed = movement.velocity.numpy()
    t = (np.arange(len(speed)) + 0.5) / len(speed)
    axes[0, 1].plot(t, speed, color="#d62728")
    axes[0, 1].set_ylim(0, 1.15 * max(float(speed.max()), 1e-12))
    units = " (of standardised values)" if standardised else ""
    axes[0, 1].set_title(f"velocity φ(t){units}", fontsize=9)
    axes[0, 1].set_xlabel("t", fontsize=8)
    _draw_decoded(axes[0, 2], movement.observations.numpy(), standardised=standardised)
    for ax in axes[0]:
        ax.tick_params(labelsize=7)
    save_figure(figure, path)


def _draw_latents(ax: Any, movement: Movement) -> None:
    """The first two latent dimensions: nodes, straight line, geodesic."""
    nodes, z = movement.nodes.numpy(), movement.latents.numpy()
    if z.shape[1] == 1:
        ax.plot(np.linspace(0, 1, len(z)), z[:, 0], color="#d62728")
        ax.set_title("latent", fontsize=9)
        return
    ax.scatter(*nodes[:, :2].T, s=2, color="#9ecae1", linewidths=0)
    ax.plot(*z[[0, -1], :2].T, "--", color="black", lw=1.2, label="straight line")
    ax.plot(*z[:, :2].T, color="#d62728", lw=1.6, label="geodesic")
    ax.set_title("latent space (nodes of the graph in blue)", fontsize=9)
    ax.legend(fontsize=7, frameon=False)


def _draw_decoded(ax: Any, x: FloatArray, *, standardised: bool) -> None:
    """Frames of images, or a line for each number of a vector."""
    if x.ndim == 4:
        chosen = x[np.linspace(0, len(x) - 1, min(_SHOWN, len(x))).round().astype(int)]
        tiles = np.pad(chosen, ((0, 0), (0, 0), (0, 1), (0, 1)), constant_values=0.5)
        blank = (-len(tiles)) % 4
        tiles = np.concatenate([tiles, np.zeros((blank, *tiles.shape[1:]))])
        rows = [np.concatenate(list(tiles[i : i + 4]), axis=2) for i in range(0, len(tiles), 4)]
        whole = np.clip(np.concatenate(rows, axis=1), 0, 1)
        shown = whole[0] if len(whole) == 1 else whole[::-1].transpose(1, 2, 0)
        ax.imshow(shown, cmap="gray", vmin=0, vmax=1)
        ax.axis("off")
        ax.set_title("decoded, row by row", fontsize=9)
        return
    t = np.linspace(0, 1, len(x))
    ax.plot(t, x.reshape(len(x), -1), lw=0.9)
    ax.set_title("decoded, standardised" if standardised else "decoded", fontsize=9)
    ax.set_xlabel("t", fontsize=8)
