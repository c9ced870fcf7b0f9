"""Crops of MOT sequences: which pixels, which part, what is passed over; on tiny made sequences."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from tools.crops import crops_of
from trackvae.errors import InputError, UsageError

WIDTH, HEIGHT = 60, 40


def sequence(folder, boxes, *, length=10, rate=1.0, which="gt", images=True):
    """A sequence whose frame n is the grey 20 n, with boxes (frame, id, left, top, w, h)."""
    (folder / "img1").mkdir(parents=True)
    (folder / which).mkdir()
    for number in range(1, length + 1) if images else ():
        frame = np.full((HEIGHT, WIDTH, 3), 20 * number, dtype=np.uint8)
        assert cv2.imwrite(str(folder / "img1" / f"{number:06d}.png"), frame)
    lines = [",".join(map(str, (*box, 1, 1, 1))) + "\n" for box in boxes]
    (folder / which / f"{which}.txt").write_text("".join(lines))
    (folder / "seqinfo.ini").write_text(
        f"[Sequence]\nname={folder.name}\nimDir=img1\nframeRate={rate}\nseqLength={length}\n"
        f"imWidth={WIDTH}\nimHeight={HEIGHT}\nimExt=.png\n"
    )
    return folder


def every_frame(length=10, identity=1):
    return [(n, identity, 10, 5, 15, 30) for n in range(1, length + 1)]


OPTIONS = {"size": (8, 6), "boxes": "gt", "min_height": 10}


def frames_of(part):
    """The frames that crops come from, by their grey."""
    return [round(float(crop.mean()) / 20) for crop in part]


class TestSplit:
    def test_is_by_time_with_a_gap_between(self, tmp_path):
        """10 frames, one a second: the last two test; 2 s before them would be frames 7 and 8."""
        data = crops_of(sequence(tmp_path / "s", every_frame()), **OPTIONS, test=0.2, gap=2)
        assert frames_of(data.train) == [1, 2, 3, 4, 5, 6]
        assert frames_of(data.test) == [9, 10]
        assert len(data.validation) == 0
        assert "6 train, 0 validation, 2 test" in data.note

    def test_has_a_validation_part_before_the_test(self, tmp_path):
        data = crops_of(
            sequence(tmp_path / "s", every_frame()), **OPTIONS, test=0.2, validation=0.3, gap=0
        )
        assert frames_of(data.train) == [1, 2, 3, 4, 5]
        assert frames_of(data.validation) == [6, 7, 8]
        assert frames_of(data.test) == [9, 10]

    def test_a_long_gap_leaves_three_quarters_of_a_part(self, tmp_path):
        data = crops_of(sequence(tmp_path / "s", every_frame()), **OPTIONS, test=0.2, gap=100)
        assert frames_of(data.train) == [1, 2, 3, 4, 5, 6]

    def test_cuts_each_of_several_sequences(self, tmp_path):
        for name in ("a", "b"):
            sequence(tmp_path / name, every_frame())
        data = crops_of(tmp_path, **OPTIONS, test=0.2, gap=0)
        assert frames_of(data.test) == [9, 10, 9, 10]
        assert data.label_names == ("a/1", "b/1")
        assert data.labels["test"].tolist() == [0, 0, 1, 1]

    def test_without_a_test_part_trains_on_all(self, tmp_path):
        data = crops_of(sequence(tmp_path / "s", every_frame()), **OPTIONS, test=0)
        assert len(data.train) == 10


class TestCrops:
    def test_hold_the_boxes_pixels(self, tmp_path):
        """A box around the left half of a frame that is black on the left and BGR on the right."""
        folder = sequence(tmp_path / "s", [(1, 1, 0, 0, 30, 40), (2, 1, 30, 0, 30, 40)], length=2)
        frame = np.zeros((HEIGHT, WIDTH, 3), dtype=np.uint8)
        frame[:, 30:] = (10, 20, 30)
        for number in (1, 2):
            cv2.imwrite(str(folder / "img1" / f"{number:06d}.png"), frame)
        data = crops_of(folder, **OPTIONS, test=0)
        assert data.train.dtype == np.uint8
        assert data.train.shape == (2, 3, 8, 6)
        assert (data.train[0] == 0).all()
        assert data.train[1].mean((1, 2)).tolist() == [10, 20, 30]

    def test_are_clipped_to_the_frame(self, tmp_path):
        boxes = [(n, 1, -5, -5, 30, 30) for n in (1, 2)]
        data = crops_of(sequence(tmp_path / "s", boxes, length=2), **OPTIONS, test=0)
        assert frames_of(data.train) == [1, 2]  # grey to the edge: nothing from outside

    def test_outside_or_tiny_ones_are_skipped_and_counted(self, tmp_path):
        strange = [
            (1, 2, 200, 5, 15, 30),  # outside
            (1, 3, -20, 5, 30, 30),  # a third of it inside
            (1, 4, 10, 5, 15, 9),  # not as high as 10
            (1, 5, 10, 5, 2, 30),  # a strip
        ]
        data = crops_of(sequence(tmp_path / "s", strange + every_frame()), **OPTIONS, test=0)
        assert len(data.train) == 10
        assert data.note.endswith("4 boxes skipped")

    def test_of_ground_truth_are_pedestrians_that_count(self, tmp_path):
        folder = sequence(tmp_path / "s", every_frame(3), length=3)
        more = "1,7,10,5,15,30,0,1,1\n1,8,10,5,15,30,1,3,1\n"  # not counted; a car
        path = folder / "gt" / "gt.txt"
        path.write_text(path.read_text() + more)
        assert len(crops_of(folder, **OPTIONS, test=0).train) == 3

    def test_of_detections_have_no_labels(self, tmp_path):
        folder = sequence(tmp_path / "s", every_frame(), which="det")
        data = crops_of(folder, **{**OPTIONS, "boxes": "det"}, test=0)
        assert len(data.train) == 10
        assert data.labels == {}

    def test_are_thinned_evenly(self, tmp_path):
        folder = sequence(tmp_path / "s", every_frame())
        assert frames_of(crops_of(folder, **OPTIONS, test=0, most=4).train) == [1, 4, 7, 10]
        assert frames_of(crops_of(folder, **OPTIONS, test=0, stride=4).train) == [1, 5, 9]


class TestBadInput:
    def test_no_images(self, tmp_path):
        folder = sequence(tmp_path / "s", every_frame(), images=False)
        with pytest.raises(InputError, match="no images or video"):
            crops_of(folder, **OPTIONS)

    def test_no_boxes_of_that_kind(self, tmp_path):
        folder = sequence(tmp_path / "s", every_frame())
        with pytest.raises(InputError, match=r"no det/det\.txt in it"):
            crops_of(folder, **{**OPTIONS, "boxes": "det"})

    def test_an_empty_file_of_boxes(self, tmp_path):
        with pytest.raises(InputError, match=r"gt\.txt: no boxes in it"):
            crops_of(sequence(tmp_path / "s", []), **OPTIONS)

    def test_only_unusable_boxes(self, tmp_path):
        folder = sequence(tmp_path / "s", [(1, 1, 200, 5, 15, 30)])
        with pytest.raises(InputError, match=r"0 box\(es\) to train on \(1 skipped"):
            crops_of(folder, **OPTIONS)

    def test_frames_of_another_size(self, tmp_path):
        folder = sequence(tmp_path / "s", every_frame())
        cv2.imwrite(str(folder / "img1" / "000003.png"), np.zeros((20, 20, 3), np.uint8))
        with pytest.raises(InputError, match="frame 3 has 20 x 20 pixels, the first 60 x 40"):
            crops_of(folder, **OPTIONS)

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"size": (0, 8)}, "size is"),
            ({"boxes": "all"}, "expected det or gt"),
            ({"most": 0}, "most is 0"),
            ({"stride": 0}, "stride is 0"),
            ({"test": 0.7, "validation": 0.4}, "less than 1"),
            ({"gap": -1.0}, "gap -1.0"),
        ],
    )
    def test_options_that_mean_nothing(self, tmp_path, options, message):
        with pytest.raises(UsageError, match=message):
            crops_of(tmp_path, **options)


@pytest.mark.real_data
def test_a_real_sequence_gives_every_usable_box(real_data):
    folder = real_data / "data" / "mot" / "TUD-Campus"
    data = crops_of(folder, size=(32, 16), boxes="gt", min_height=20, test=0.2, gap=0)
    assert data.shape == (3, 32, 16)
    assert len(data.train) + len(data.test) <= 359
    assert len(data.train) > 200
    assert len(data.label_names) == 8
