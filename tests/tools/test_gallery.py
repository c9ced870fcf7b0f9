"""``trackvae gallery``: answers, identities, pictures, bad input, and being killed."""

from __future__ import annotations

import json
import os
import signal
import sys
import time

import cv2
import numpy as np
import pytest

from reid.gallery import Gallery
from reid.pictures import RankList, Tile, draw_rank_lists, rank_lists
from tests.processes import start_python
from tools.cli import main
from tools.embed import write_arrays
from tools.embeddings import Place, read_embedded
from trackvae.errors import InputError, UsageError

COLOURS = {"anna": (40, 40, 200), "bob": (200, 60, 40), "cleo": (60, 180, 60)}  # BGR


def run(*arguments):
    return main(["gallery", *(str(argument) for argument in arguments)])


def said(capsys, *arguments):
    """Exit code and the one line on stderr."""
    capsys.readouterr()
    code = run(*arguments)
    error = capsys.readouterr().err
    assert error.count("\n") == 1, error
    return code, error


@pytest.fixture
def people(tmp_path):
    """Noisy crops in one colour a person: four of each to know, one of each to ask about."""
    rng = np.random.default_rng(0)
    for part, count in (("known", 4), ("asked", 1)):
        for name, colour in COLOURS.items():
            for number in range(count):
                crop = np.array(colour) + rng.integers(-30, 31, (60, 24, 3))
                path = tmp_path / part / name / f"{number}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                cv2.imwrite(str(path), crop.clip(0, 255).astype(np.uint8))
        out = tmp_path / f"{part}.npz"
        main(["embed", str(tmp_path / part), "--encoder", "colour-stripes", "--out", str(out)])
    return tmp_path


def made(path, features, *, encoder="model 1234", **arrays):
    """A file as trackvae embed writes it."""
    features = np.asarray(features, np.float32)
    names = np.array([f"{row}.png" for row in range(len(features))])
    arrays = {"name": names, "encoder": np.array(encoder), **arrays}
    write_arrays(path, {"feature": features, **arrays})
    return path


# --- the main job


def test_build_add_search_remove(people, capsys):
    gallery, asked = people / "gallery.npz", people / "asked.npz"
    assert run("build", people / "known.npz", "--out", gallery) == 0
    assert "12 crops of 3 identities" in capsys.readouterr().out
    answers = people / "answers.json"
    assert run("search", gallery, asked, "--k", "3", "--json", answers) == 0
    shown = capsys.readouterr().out.splitlines()
    for line, name in zip(shown[:3], COLOURS, strict=True):
        assert line.startswith(f"{name}/0.png: {name} ")
        assert line.count(f"{name} ") == 3
    assert "nearest is right: 3 of 3" in shown[3]
    content = json.loads(answers.read_text())
    assert content["encoder"] == "colour-stripes"
    features = {part: read_embedded(people / f"{part}.npz") for part in ("known", "asked")}
    for row, query in enumerate(content["queries"]):
        distances = [answer["distance"] for answer in query["answers"]]
        every = np.linalg.norm(features["known"].features - features["asked"].features[row], axis=1)
        np.testing.assert_allclose(distances, np.sort(every)[:3], atol=1e-4)
        places = [place.name for place in features["known"].places]
        assert [a["crop"] for a in query["answers"]] == [places[r] for r in every.argsort()[:3]]

    assert run("remove", gallery, "anna", "cleo") == 0
    assert "8 crops removed" in capsys.readouterr().out
    assert run("add", gallery, asked) == 0
    assert "7 crops of 3 identities" in capsys.readouterr().out
    run("search", gallery, asked, "--k", "1")
    shown = capsys.readouterr().out
    assert "bob/0.png: bob " in shown
    assert "anna/0.png: anna" not in shown  # the only crop of anna is the query itself


@pytest.mark.parametrize("kind", ["exact", "hnsw", "ivf-pq"])
@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_every_kind_and_metric(people, kind, metric, capsys):
    gallery = people / "gallery.npz"
    settings = ["--kind", kind, "--metric", metric, "--most-per-id", "2"]
    assert run("build", people / "known.npz", "--out", gallery, *settings) == 0
    assert "6 crops of 3 identities" in capsys.readouterr().out
    run("search", gallery, people / "asked.npz")
    assert "3 of 3" in capsys.readouterr().out


def test_notes_follow_their_entries(tmp_path):
    """Whatever is bounded, removed, saved: an answer's note is that of the entry it found."""
    gallery, rng = Gallery(3, most_per_id=4), np.random.default_rng(0)
    for step in range(12):
        vectors, ids = rng.standard_normal((9, 3)), rng.integers(0, 5, 9)
        notes = [f"{name} " + ",".join(f"{v:.5f}" for v in row)
                 for name, row in zip(ids, vectors.astype(np.float32), strict=True)]  # fmt: skip
        gallery.add(vectors, ids, notes)
        if step % 3 == 2:
            gallery.remove(np.array([step % 5]))
            gallery.save(tmp_path / "gallery.npz")
            gallery = Gallery.load(tmp_path / "gallery.npz")
        found = gallery.search(gallery.embeddings, 1)
        np.testing.assert_array_equal(found.places[:, 0], np.arange(len(gallery)))
        for vector, name, note in zip(gallery.embeddings, gallery.ids, gallery.notes, strict=True):
            assert note == f"{name} " + ",".join(f"{v:.5f}" for v in vector)
    with pytest.raises(InputError, match="2 notes for 1 embeddings"):
        gallery.add(np.zeros((1, 3)), np.zeros(1, int), ["a", "b"])


# --- whose crops they are


@pytest.mark.parametrize(
    ("names", "more", "ids_from", "expected"),
    [
        (["a/1.png", "b/2.png"], {}, "auto", ["a", "b"]),
        (["a/x/1.png", "b/2_3.png"], {}, "file", ["1", "2"]),
        (["0002_c1s1_01.jpg", "photo.jpg"], {}, "auto", ["0002", "photo"]),
        (["a/1.png", "b/2.png"], {"id": np.array([7, 9])}, "auto", ["7", "9"]),
        (["a/1.png", "b/2.png"], {"id": np.array([7, 9])}, "folder", ["a", "b"]),
    ],
)
def test_identities_of_images(names, more, ids_from, expected, tmp_path):
    path = made(tmp_path / "e.npz", np.eye(2), name=np.array(names), **more)
    assert read_embedded(path, ids_from).identities == expected


def test_identities_of_boxes(tmp_path):
    """One sequence's 7 is not another's."""
    boxes = {"frame": np.array([1, 2]), "tlwh": np.ones((2, 4)), "source": np.array("/data/SEQ-2")}
    arrays = {"feature": np.eye(2), **boxes}
    write_arrays(tmp_path / "det.npz", arrays)
    assert read_embedded(tmp_path / "det.npz").identities is None
    write_arrays(tmp_path / "gt.npz", {**arrays, "id": np.array([7, 8])})
    found = read_embedded(tmp_path / "gt.npz")
    assert found.identities == ["SEQ-2/7", "SEQ-2/8"]
    assert found.places[1].shown == "SEQ-2 frame 2 at 1,1,1,1"
    assert Place.of(json.loads(json.dumps(found.places[1].to_list()))) == found.places[1]


# --- pictures


def colour_at(picture, column, row=0, down=60, right=40):
    """The middle of a rank list's crop."""
    return picture[8 + row * 178 + down, 8 + column * 100 + (16 if column else 0) + right]


def test_the_picture_shows_crops_and_what_is_right(people):
    gallery, out = people / "gallery.npz", people / "ranks.png"
    run("build", people / "known.npz", "--out", gallery)
    run("remove", gallery, "cleo")
    run("search", gallery, people / "asked.npz", "--k", "5", "--picture", out)
    picture = cv2.imread(str(out))
    for row, name in enumerate(COLOURS):
        assert np.abs(colour_at(picture, 0, row) - np.array(COLOURS[name])).max() <= 40
        frames = [colour_at(picture, column, row, 1, 1) for column in range(1, 6)]
        green = [bool(colour[1] > 150 and colour[2] < 100) for colour in frames]
        red = [bool(colour[2] > 150 and colour[1] < 100) for colour in frames]
        known = name != "cleo"
        assert green == [known] * 4 + [False]
        assert red == [False] * 4 + [known]
    assert np.abs(colour_at(picture, 1) - np.array(COLOURS["anna"])).max() <= 40


def test_a_picture_without_some_of_the_images(people, capsys):
    gallery, out = people / "gallery.npz", people / "ranks.png"
    run("build", people / "known.npz", "--out", gallery)
    for path in (people / "known").rglob("*.png"):
        path.unlink()
    assert run("search", gallery, people / "asked.npz", "--picture", out) == 0
    assert out.stat().st_size > 1000
    for path in (people / "asked").rglob("*.png"):
        path.unlink()
    code, error = said(capsys, "search", gallery, people / "asked.npz", "--picture", out)
    assert (code, "nothing to draw" in error) == (1, True)


def test_boxes_of_a_sequence_are_drawn_from_its_frames(tmp_path):
    """Each frame in a colour of its own: the crops must have it."""
    (tmp_path / "seq" / "img1").mkdir(parents=True)
    (tmp_path / "seq" / "gt").mkdir()
    for number, colour in enumerate(COLOURS.values(), start=1):
        image = np.broadcast_to(colour, (90, 120, 3)).astype(np.uint8)
        cv2.imwrite(str(tmp_path / "seq" / "img1" / f"{number:06d}.png"), image)
    lines = [f"{frame},1,10,5,30,70,1,1,1\n" for frame in (1, 2, 3)]
    (tmp_path / "seq" / "gt" / "gt.txt").write_text("".join(lines))
    out, gallery = tmp_path / "e.npz", tmp_path / "g.npz"
    given = ["--encoder", "colour-stripes", "--out", str(out), "--boxes", "gt"]
    main(["embed", str(tmp_path / "seq"), *given])
    run("build", out, "--out", gallery)
    run("search", gallery, out, "--picture", tmp_path / "ranks.png")
    picture = cv2.imread(str(tmp_path / "ranks.png"))
    for row, colour in enumerate(COLOURS.values()):
        np.testing.assert_array_equal(colour_at(picture, 0, row), colour)


def test_rank_lists_of_different_lengths_and_odd_crops(tmp_path):
    wide, tall = np.zeros((4, 300, 3), np.uint8), np.zeros((300, 1, 3), np.uint8)
    lists = [
        RankList(Tile(wide, ("query", "a very long name of a person")), ()),
        RankList(Tile(None, ()), [Tile(tall, ("é",), True), Tile(tall, (), False)]),
    ]
    assert rank_lists(lists).shape == (8 + 2 * 178, 8 + 3 * 100 + 16, 3)
    with pytest.raises(UsageError, match="no query"):
        rank_lists([])
    with pytest.raises(UsageError, match="a PNG"):
        draw_rank_lists(tmp_path / "a.jpg", lists)
    with pytest.raises(InputError, match="expected uint8"):
        rank_lists([RankList(Tile(np.zeros((4, 4)), ()))])


# --- bad input


@pytest.fixture
def small(tmp_path):
    """A gallery of two crops in three dimensions."""
    run("build", made(tmp_path / "two.npz", np.eye(3)[:2]), "--out", tmp_path / "gallery.npz")
    return tmp_path


def test_another_encoder(small, capsys):
    gallery = small / "gallery.npz"
    before = gallery.read_bytes()
    wide = made(small / "wide.npz", np.eye(5), encoder="other.safetensors 99")
    other = made(small / "other.npz", np.eye(3), encoder="other.safetensors 99")
    renamed = made(small / "renamed.npz", np.eye(3), encoder="copy.safetensors 1234")
    for command in ("add", "search"):
        code, error = said(capsys, command, gallery, wide)
        assert (code, "wide.npz: embeddings of 5 dimensions" in error) == (1, True)
        assert "gallery.npz has 3" in error
        code, error = said(capsys, command, gallery, other)
        assert (code, "but" in error, "is of model 1234" in error) == (1, True, True)
        assert run(command, gallery, renamed) == 0  # the same weights by another name
        if command == "add":
            gallery.write_bytes(before)


def test_an_empty_gallery(small, capsys):
    run("remove", small / "gallery.npz", "0", "1")
    code, error = said(capsys, "search", small / "gallery.npz", small / "two.npz")
    assert (code, "an empty gallery" in error) == (1, True)
    assert run("add", small / "gallery.npz", small / "two.npz") == 0
    assert run("search", small / "gallery.npz", small / "two.npz") == 0


@pytest.mark.parametrize("command", ["add", "search", "remove"])
@pytest.mark.parametrize("damage", ["cut", "text", "embeddings", "missing"])
def test_a_corrupt_gallery(small, command, damage, capsys):
    gallery = small / "gallery.npz"
    if damage == "cut":
        gallery.write_bytes(gallery.read_bytes()[:-150])
    elif damage == "text":
        gallery.write_text("no gallery")
    elif damage == "embeddings":
        made(gallery, np.eye(3))
    else:
        gallery.unlink()
    code, error = said(capsys, command, gallery, "0" if command == "remove" else small / "two.npz")
    assert (code, "gallery.npz: n" in error) == (1, True)  # not ..., no such file


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["remove", "gallery.npz", "nobody"], 1, "nobody in it is called nobody"),
        (["remove", "gallery.npz"], 2, "no identity given"),
        (["search", "gallery.npz", "two.npz", "--k", "0"], 2, "--k is 0"),
        (["search", "gallery.npz", "two.npz", "--picture", "a.jpg"], 2, "ends in .png"),
        (["search", "gallery.npz", "none.npz"], 1, "none.npz: no such file"),
        (["build", "boxes.npz", "--out", "g.npz"], 1, "its boxes have no identities"),
        (["build", "two.npz", "--out", "g.npz", "--ids", "folder"], 1, "--ids folder says nothing"),
        (["build", "two.npz", "--out", "g.npz", "--most-per-id", "0"], 2, "most_per_id 0"),
        (["build", "empty.npz", "--out", "g.npz"], 1, "no embeddings in it"),
        (["build", "nan.npz", "--out", "g.npz"], 1, "NaN"),
        (["build", "other.npz", "--out", "g.npz"], 1, "no array feature"),
        (["build", "nameless.npz", "--out", "g.npz"], 1, "neither the names of 2 crops"),
    ],
)
def test_what_cannot_be(small, arguments, code, message, capsys):
    np.savez(small / "other.npz", images=np.zeros(3))
    np.savez(small / "nameless.npz", feature=np.eye(2))
    boxes = {"frame": np.ones(2, int), "tlwh": np.ones((2, 4))}
    write_arrays(small / "boxes.npz", {"feature": np.eye(2), **boxes})
    made(small / "empty.npz", np.zeros((0, 3)))
    made(small / "nan.npz", np.full((2, 3), np.nan))
    given = [small / text if text.endswith((".npz", ".jpg")) else text for text in arguments]
    found, error = said(capsys, *given)
    assert (found, message in error) == (code, True), error
    assert not (small / "g.npz").exists()


def test_without_faiss(small, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "faiss", None)
    for given in (["build", small / "two.npz", "--out", small / "g.npz"],
                  ["search", small / "gallery.npz", small / "two.npz"]):  # fmt: skip
        code, error = said(capsys, *given)
        assert (code, "pip install faiss-cpu" in error) == (1, True)


# --- kill -9


def test_kill_during_add_loses_nothing(tmp_path):
    """Killed before, while and after the file is written: it holds the old crops, or all."""
    rng = np.random.default_rng(0)
    gallery, more = tmp_path / "gallery.npz", tmp_path / "more.npz"
    old, new = 12_000, 2_000
    features = rng.standard_normal((old + new, 128)).astype(np.float32)
    run("build", made(tmp_path / "old.npz", features[:old]), "--out", gallery)
    made(more, features[old:], name=np.array([f"new{row}.png" for row in range(new)]))
    counts = []
    for pause in (0.0, 0.005, 0.02, None):
        before = len(Gallery.load(gallery))
        process = start_python("-m", "tools.cli", "gallery", "add", str(gallery), str(more))
        while process.poll() is None and not list(tmp_path.glob(".gallery.*.part.npz")):
            time.sleep(0.001)  # it begins to write
        if pause is not None:
            time.sleep(pause)
            os.kill(process.pid, signal.SIGKILL)
        _, error = process.communicate(timeout=60)
        assert "Traceback" not in error
        found = Gallery.load(gallery)
        assert len(found) in (before, before + new)
        np.testing.assert_array_equal(found.embeddings[:old], features[:old])
        assert len(found.notes) == len(found)
        counts.append(len(found) - before)
        for left in tmp_path.glob(".gallery.*.part.npz"):
            left.unlink()
    assert counts[-1] == new  # whom nobody kills has added
