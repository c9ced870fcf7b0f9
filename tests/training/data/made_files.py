"""Small files of each kind that a user may have, for the tests to read."""

import zipfile

import cv2
import numpy as np

from training.data.gait import made_motion, made_skeleton
from training.data.glyphs import render_glyphs
from training.data.idx import write_idx
from training.data.motion import amc_text
from training.data.skeleton import asf_text


def made_mnist(folder, train=60, tests=12, ending=""):
    rng = np.random.default_rng(0)
    for part, count in (("train", train), ("t10k", tests)):
        digits = np.arange(count) % 10
        write_idx(folder / f"{part}-images-idx3-ubyte{ending}", render_glyphs(digits, rng))
        write_idx(folder / f"{part}-labels-idx1-ubyte{ending}", digits.astype(np.uint8))
    return folder


def write_image(path, image):
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), image)
    return path


def flat(level, height=8, width=6):
    return np.full((height, width, 3), level, dtype=np.uint8)


def made_archive(path, alphabets, shade=0):
    with zipfile.ZipFile(path, "w") as archive:
        for alphabet in alphabets:
            for number in range(6):
                page = np.full((105, 105), 255, dtype=np.uint8)
                page[30:60, 15 * number : 15 * number + 15] = shade
                content = cv2.imencode(".png", page)[1].tobytes()
                name = f"{path.stem}/{alphabet}/character01/{number:04d}_01.png"
                archive.writestr(name, content)
        archive.writestr("__MACOSX/._x.png", b"no image")
    return path


def made_subject(folder, recordings=2):
    folder.mkdir(parents=True)
    (folder / "s.asf").write_text(asf_text(made_skeleton()))
    for number in range(recordings):
        text = amc_text(made_motion(seconds=0.5, seed=number))
        (folder / f"s_{number}.amc").write_text(text)
    return folder
