"""Motion capture: files read back equal, bones keep their lengths, 50 features a frame."""

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.training.data.made_files import made_subject
from trackvae.errors import InputError, UsageError
from training.data.gait import STYLES, gait, made_motion, made_skeleton
from training.data.mocap import (
    CMU_MOTIONS,
    FEATURES,
    cmu,
    joint_features,
    motion_set,
    pose,
    read_subject,
    subjects,
    without_root,
)
from training.data.motion import Motion, amc_text, is_jog, read_amc, read_walk_jog, speed
from training.data.skeleton import asf_text, joint_positions, read_asf, rotation_matrices

SKELETON = made_skeleton()
ROOT_COLUMNS = 6


def naive_positions(skeleton, row):
    """Forward kinematics of one frame, bone by bone, by the rotation about each axis in turn."""

    def about(axis, degrees):
        c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
        i, j = [(1, 2), (2, 0), (0, 1)][axis]
        matrix = np.eye(3)
        matrix[i, i] = matrix[j, j] = c
        matrix[i, j], matrix[j, i] = -s, s
        return matrix

    def euler(angles):
        return about(2, angles[2]) @ about(1, angles[1]) @ about(0, angles[0])

    values = dict(zip(skeleton.columns, row, strict=True))

    def turned(bone):
        name = skeleton.names[bone]
        frame = euler(skeleton.axes[bone])
        motion = euler([values.get((name, f"r{a}"), 0.0) for a in "xyz"])
        local = frame @ motion @ np.linalg.inv(frame)
        parent = skeleton.parents[bone]
        return local if parent < 0 else turned(parent) @ local

    def end(bone):
        if skeleton.parents[bone] < 0:
            return np.array([values[("root", f"t{a}")] for a in "xyz"])
        return end(skeleton.parents[bone]) + turned(bone) @ skeleton.offsets[bone]

    return skeleton.unit * np.array([end(bone) for bone in range(len(skeleton.names))])


@settings(max_examples=15)
@given(st.integers(0, 2**32 - 1))
def test_kinematics_equal_a_naive_walk_and_keep_every_bone_s_length(seed):
    rng = np.random.default_rng(seed)
    values = rng.uniform(-180, 180, size=(3, len(SKELETON.columns)))
    positions = joint_positions(SKELETON, values)
    np.testing.assert_allclose(positions[1], naive_positions(SKELETON, values[1]), atol=1e-9)
    parent, child = SKELETON.bones.T
    lengths = np.linalg.norm(positions[:, child] - positions[:, parent], axis=2)
    expected = np.linalg.norm(SKELETON.offsets[child], axis=1) * SKELETON.unit
    np.testing.assert_allclose(lengths, np.broadcast_to(expected, lengths.shape), atol=1e-9)


def test_a_quarter_turn_by_hand():
    z = rotation_matrices(np.array([0.0, 0.0, 90.0]))
    np.testing.assert_allclose(z @ [1, 0, 0], [0, 1, 0], atol=1e-12)
    xz = rotation_matrices(np.array([90.0, 0.0, 90.0]))  # y to z about x, and there it stays
    np.testing.assert_allclose(xz @ [0, 1, 0], [0, 0, 1], atol=1e-12)


def test_a_skeleton_written_and_read_is_equal(tmp_path):
    (tmp_path / "s.asf").write_text(asf_text(SKELETON))
    read = read_asf(tmp_path / "s.asf")
    for name in ("names", "channels", "columns"):
        assert getattr(read, name) == getattr(SKELETON, name)
    for name in ("parents", "offsets", "axes", "unit"):
        np.testing.assert_allclose(getattr(read, name), getattr(SKELETON, name), rtol=1e-12)


@given(st.integers(1, 4), st.integers(0, 2**32 - 1))
def test_a_motion_written_and_read_is_equal_to_the_last_bit(tmp_path_factory, frames, seed):
    values = np.random.default_rng(seed).normal(0, 90, size=(frames, len(SKELETON.columns)))
    path = tmp_path_factory.mktemp("amc") / "m.amc"
    path.write_text(amc_text(Motion(SKELETON.columns, values)))
    read = read_amc(path, SKELETON)
    np.testing.assert_array_equal(read.values, values)
    assert (read.columns, read.name) == (SKELETON.columns, "m")


@pytest.mark.parametrize(
    ("pattern", "replacement", "message"),
    [
        (r"(?s).*", "", "not an .asf skeleton"),
        (r"order TX", "order QX", r":\d+: found 'qx ty.*expected some of tx"),
        (r"angle deg", "angle rad", r":\d+: angles in 'rad', expected deg"),
        (r"axis XYZ\n  position", "axis ZYX\n  position", "only XYZ is supported"),
        (r"length 2\.8\S*", "length long", r":\d+: found 'long', expected 1 number"),
        (r"name lfemur\n", "\n", "the bone '' ends without name"),
        (r"    lhipjoint lfemur\n", "", "does not lead from the bone 'lfemur' to the root"),
        (r"    lhipjoint lfemur\n", "    ltoes lfemur\n", "does not lead from the bone 'lfemur'"),
    ],
)
def test_a_damaged_skeleton(tmp_path, pattern, replacement, message):
    path = tmp_path / "s.asf"
    text, count = re.subn(pattern, replacement, asf_text(SKELETON), count=1)
    assert count == 1
    path.write_text(text)
    with pytest.raises(InputError, match=message) as caught:
        read_asf(path)
    assert str(caught.value).startswith(str(path))


@pytest.mark.parametrize(
    ("pattern", "replacement", "message"),
    [
        (r"(?s).*", "", "no frames in it"),
        (r":DEGREES", ":RADIANS", ":2: angles in radians"),
        (r"\n1\n", "\n", ":3: found 'root' before the first frame's number"),
        (r"head (\S+)", r"head \1 5", r":\d+: found 'head .*expected 3 number"),
        (r"head \S+", "head nan", r":\d+: found 'head nan.*expected 3 number"),
        (r"head", "tail", r":\d+: found 'tail', which the skeleton does not have"),
        (r"head", "thorax", r":\d+: found 'thorax' twice in a frame"),
        (r"head", "lhipjoint", r":\d+: found 'lhipjoint', which the skeleton does not move"),
        (r"head .*\n", "", "frame 1 is cut short or incomplete: no head"),
        (r"(?s)rwrist [^r]*rhand.*", "", "frame 1 is cut short or incomplete: no r"),
    ],
)
def test_a_damaged_motion(tmp_path, pattern, replacement, message):
    path = tmp_path / "m.amc"
    text, count = re.subn(pattern, replacement, amc_text(made_motion(seconds=0.02)), count=1)
    assert count == 1
    path.write_text(text)
    with pytest.raises(InputError, match=message) as caught:
        read_amc(path, SKELETON)
    assert str(caught.value).startswith(str(path))


def test_there_are_50_features_and_a_pose_has_them_back():
    motion = made_motion(seconds=0.3)
    features = joint_features(motion)
    assert features.shape == (36, 50)
    assert len(set(FEATURES)) == 50
    assert not any(bone == "root" for bone, _ in FEATURES)
    np.testing.assert_allclose(
        joint_positions(SKELETON, pose(features, SKELETON)),
        joint_positions(SKELETON, without_root(motion)),
        atol=1e-12,
    )
    left_out = set(SKELETON.columns[ROOT_COLUMNS:]) - set(FEATURES)
    assert left_out == {
        (side + bone, channel)
        for side in "lr"
        for bone, channel in (("clavicle", "ry"), ("clavicle", "rz"), ("fingers", "rx"))
    }
    with pytest.raises(InputError, match=r"stick: a skeleton without lfemur rx, lfemur ry"):
        joint_features(Motion((("root", "tx"),), np.zeros((1, 1)), name="stick"))


@pytest.mark.parametrize("style", STYLES)
def test_the_made_gait_stands_on_the_ground_and_moves_as_it_says(style):
    motion = made_motion(style, seconds=4.0, seed=3)
    heights = joint_positions(SKELETON, motion.values)[..., 1]
    np.testing.assert_allclose(heights.min(axis=1), 0, atol=1e-9)
    assert 1.4 < heights.max(axis=1).mean() < 1.8  # metres
    expected = {"walk": 1.2, "jog": 3.3, "balance": 0.0}[style]
    assert speed(motion, SKELETON) == pytest.approx(expected, rel=0.05)
    assert is_jog(motion, SKELETON) == (style == "jog")


def test_whole_recordings_are_held_out():
    for recordings, tested in ((10, (5, 10)), (5, (5,)), (4, (4,)), (3, (3,))):
        marked = [
            Motion(SKELETON.columns, np.full((8, len(SKELETON.columns)), float(n)))
            for n in range(1, recordings + 1)
        ]
        data = motion_set("m", {"walk": marked})
        raw = data.standardisation.undo(data.test)[:, 0].round(3)
        assert sorted(set(raw.tolist())) == list(tested)
    data = motion_set("m", {"walk": [made_motion(seconds=1.0), made_motion(seconds=1.0, seed=1)]})
    assert (len(data.train), len(data.test)) == (48, 12)  # the last fifth of each


def test_the_stand_in_is_standardised_and_labelled():
    data = gait(5, seconds=1.0)
    assert data.shape == (50,)
    assert data.label_names == STYLES
    assert np.bincount(data.labels["train"]).tolist() == [120] * 3
    assert np.bincount(data.labels["test"]).tolist() == [30] * 3
    np.testing.assert_allclose(data.train.mean(axis=0), 0, atol=1e-4)
    still = data.train.std(axis=0) < 1e-6
    np.testing.assert_allclose(data.train.std(axis=0)[~still], 1, atol=1e-4)


def test_settings_that_mean_nothing():
    with pytest.raises(UsageError, match="120 frames a second cannot be thinned to 50"):
        motion_set("m", {"walk": [made_motion(seconds=0.1)]}, rate=50.0)
    with pytest.raises(InputError, match="m: no recordings"):
        motion_set("m", {"walk": []})
    with pytest.raises(UsageError, match="style is 'fly'"):
        made_motion("fly")
    with pytest.raises(UsageError, match="motion is 'kick', expected some of walk"):
        cmu("nowhere", ["kick"])


def test_folders_of_subjects(tmp_path):
    made_subject(tmp_path / "01")
    made_subject(tmp_path / "02")
    skeleton, motions = read_subject(tmp_path / "01")
    assert skeleton.names == SKELETON.names
    assert [m.values.shape for m in motions] == [(60, 62)] * 2
    data = subjects(tmp_path)
    assert data.label_names == ("01", "02")
    made_subject(tmp_path / "03", recordings=0)
    with pytest.raises(InputError, match=r"03: no .amc motions beside s.asf"):
        subjects(tmp_path)
    with pytest.raises(InputError, match=r"no .asf skeletons in it"):
        read_subject(tmp_path)


def test_what_is_not_the_walks_and_jogs(tmp_path):
    path = tmp_path / "a.mat"
    with pytest.raises(InputError, match="no such file"):
        read_walk_jog(path, SKELETON)
    path.write_bytes(b"nonsense" * 40)
    with pytest.raises(InputError, match=r"a.mat: not the walks and jogs of subject 35"):
        read_walk_jog(path, SKELETON)


@pytest.mark.real_data
def test_subject_35_itself(real_data):
    skeleton, motions = read_subject(real_data / "data" / "mocap" / "35")
    assert len(skeleton.columns) == 62
    assert len(skeleton.names) == 31
    assert len(motions) == 20
    frames = {motion.name: len(motion.values) for motion in motions}
    assert (frames["35_01"], frames["35_02"], frames["35_30"]) == (358, 387, 253)
    assert sum(frames.values()) == 7900
    thigh = np.linalg.norm(skeleton.offsets[skeleton.names.index("lfemur")]) * skeleton.unit
    assert thigh == pytest.approx(0.418, abs=0.001)  # metres
    walk = motions[0]
    np.testing.assert_allclose(
        joint_positions(skeleton, walk.values[7:8])[0],
        naive_positions(skeleton, walk.values[7]),
        atol=1e-9,
    )
    assert 1.0 < speed(walk, skeleton) < 1.5


@pytest.mark.real_data
def test_what_the_features_leave_out_never_moves(real_data):
    root = real_data / "data" / "mocap"
    fixed = set()
    for subject in ("35", "49", "16", "02"):
        _, motions = read_subject(root / subject)
        values = np.concatenate([motion.values for motion in motions])
        still = np.ptp(values, axis=0) < 1e-9
        fixed.add(frozenset(c for c, s in zip(motions[0].columns, still, strict=True) if s))
    assert fixed == {frozenset(set(SKELETON.columns[ROOT_COLUMNS:]) - set(FEATURES))}


@pytest.mark.real_data
def test_the_walks_and_jogs_are_the_amc_s_own_frames(real_data):
    root = real_data / "data" / "mocap"
    skeleton, motions = read_subject(root / "35")
    recordings = read_walk_jog(root / "cmu35WalkJog.mat", skeleton)
    assert sum(len(r.values) for r in recordings) == 2644
    assert sum(is_jog(r, skeleton) for r in recordings) == 9
    thinned = motions[0].every(4)  # 35_01
    assert thinned.rate == recordings[0].rate
    np.testing.assert_allclose(recordings[0].values[: len(thinned.values)], thinned.values)


@pytest.mark.real_data
def test_the_five_motions_themselves(real_data):
    data = cmu(real_data / "data" / "mocap")
    assert data.label_names == CMU_MOTIONS
    assert data.shape == (50,)
    assert np.bincount(data.labels["train"]).tolist() == [1867, 320, 516, 692, 241]
    assert np.bincount(data.labels["test"]).tolist() == [415, 42, 225, 95, 69]
    assert np.isfinite(data.train).all()
    assert np.abs(data.train.std(axis=0) - 1).max() < 1e-4
