"""What a sequence is, and ``seqinfo.ini``, in which MOTChallenge writes it down."""

from __future__ import annotations

import configparser
from dataclasses import dataclass, replace
from pathlib import Path

from tracker.detections import LARGEST
from trackvae.errors import InputError
from trackvae.files import write_text

MOST_FRAMES = 2_000_000  # 18 hours at 30 frames a second; more is a misread number


@dataclass(frozen=True, slots=True)
class SequenceInfo:
    """What ``seqinfo.ini`` says of a sequence; None or 0 where it is not known.

    Attributes:
        name: the sequence's name.
        length: number of frames, or None.
        frame_rate: frames a second.
        width: of the image in pixels, 0 where unknown.
        height: of the image in pixels, 0 where unknown.
        image_dir: folder of the images, relative to the sequence's.
        image_ext: ending of the images' names, with the dot.
    """

    name: str
    length: int | None = None
    frame_rate: float = 30.0
    width: int = 0
    height: int = 0
    image_dir: str = "img1"
    image_ext: str = ".jpg"


def read_seqinfo(path: str | Path) -> SequenceInfo:
    """Read ``seqinfo.ini``; entries that are left out keep their defaults.

    Raises:
        InputError: the file is missing or not an ini file, or an entry is not a number.
    """
    path = Path(path)
    parser = configparser.ConfigParser(interpolation=None)
    try:
        parser.read_string(path.read_text(encoding="utf-8-sig"), source=str(path))
        section = parser["Sequence"]
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file") from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error})") from error
    except (configparser.Error, KeyError, UnicodeDecodeError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"{path}: no [Sequence] section can be read ({reason})") from error
    info = SequenceInfo(section.get("name", path.parent.name))
    numbers = {}
    for entry, field in _SEQINFO_NUMBERS.items():
        if entry in section:
            value = section[entry]
            try:
                numbers[field] = float(value)
            except ValueError:
                raise InputError(f"{path}: {entry} is {value!r}, expected a number") from None
            if not 0 < numbers[field] < LARGEST:
                raise InputError(f"{path}: {entry} is {value}, expected a positive number")
            if field == "length" and numbers[field] > MOST_FRAMES:
                raise InputError(f"{path}: {entry} is {value}, expected at most {MOST_FRAMES}")
    return replace(
        info,
        length=int(numbers["length"]) if "length" in numbers else None,
        frame_rate=numbers.get("frame_rate", info.frame_rate),
        width=int(numbers.get("width", 0)),
        height=int(numbers.get("height", 0)),
        image_dir=section.get("imDir", info.image_dir),
        image_ext=section.get("imExt", info.image_ext),
    )


_SEQINFO_NUMBERS = {
    "seqLength": "length",
    "frameRate": "frame_rate",
    "imWidth": "width",
    "imHeight": "height",
}


def write_seqinfo(path: str | Path, info: SequenceInfo, *, maker: str = "") -> None:
    """Write ``seqinfo.ini`` in MOTChallenge's form; ``maker`` adds an entry for who made it."""
    lines = ["[Sequence]", f"name={info.name}", f"imDir={info.image_dir}"]
    lines.append(f"frameRate={info.frame_rate:g}")
    if info.length is not None:
        lines.append(f"seqLength={info.length}")
    if info.width and info.height:
        lines += [f"imWidth={info.width}", f"imHeight={info.height}"]
    lines.append(f"imExt={info.image_ext}")
    if maker:
        lines.append(f"maker={maker}")
    write_text(path, "\n".join(lines) + "\n")
