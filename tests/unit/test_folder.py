"""MultiLabelImageFolder: what it reads, and every folder that it refuses."""

import os
from pathlib import Path

import pytest
import torch
from PIL import Image

from trainer.data.dataset import MultiLabelImageFolder
from trainer.data.samples import Format, find_images, label_set
from trainer.errors import UserError


def test_folder_names_become_multi_hot_targets(make_images):
    root = make_images("data", {"red-square": 2, "blue": 1})
    data = MultiLabelImageFolder(root)
    assert data.classes == ["blue", "red", "square"]
    assert [image.labels for image in data.images] == [("blue",), ("red", "square"), ("red", "square")]
    assert data.targets.dtype == torch.float32
    assert data.targets.tolist() == [[1, 0, 0], [0, 1, 1], [0, 1, 1]]
    image, target = data[1]
    assert image.mode == "RGB"
    assert image.size == (36, 48)
    assert target.tolist() == [0, 1, 1]
    assert data.images[0].path.parent.name == "blue"


def test_the_order_of_labels_in_a_name_does_not_matter(make_images):
    data = MultiLabelImageFolder(make_images("data", {"red-square": 1, "square-blue": 1, "square-red": 1}))
    assert data.classes == ["blue", "red", "square"]
    assert [image.labels for image in data.images].count(("red", "square")) == 2


def test_another_separator(make_images):
    data = MultiLabelImageFolder(make_images("data", {"red+dark-blue": 1, "square": 1}), form=Format("+"))
    assert data.classes == ["dark-blue", "red", "square"]


def test_the_folder_of_negatives_means_no_label(make_images):
    root = make_images("data", {"red-square": 1, "blue": 1, "_none": 2})
    data = MultiLabelImageFolder(root)
    assert data.classes == ["blue", "red", "square"]
    assert data.targets.tolist() == [[0, 0, 0], [0, 0, 0], [1, 0, 0], [0, 1, 1]]


def test_negatives_may_have_another_name_or_none(make_images):
    root = make_images("data", {"red": 1, "blue": 1, "nothing-here": 1, "_none": 1})
    assert MultiLabelImageFolder(root, form=Format("-", "nothing-here")).classes == ["_none", "blue", "red"]
    assert MultiLabelImageFolder(root, form=Format("-", "")).classes == ["_none", "blue", "here", "nothing", "red"]


def test_one_label_beside_negatives_is_refused_with_a_way_out(make_images):
    with pytest.raises(UserError, match=r"one label, 'red'; .* or call '_none' something that is a label"):
        MultiLabelImageFolder(make_images("data", {"red": 1, "_none": 1}))


def test_hidden_folders_and_other_files_are_left_out(make_images):
    root = make_images("data", {"red": 1, ".cache": 1, "blue": 1})
    (root / "red" / "notes.txt").write_text("not an image")
    (root / "red" / "._000.png").write_bytes(b"a Mac's resource fork")
    assert len(MultiLabelImageFolder(root)) == 2


@pytest.mark.parametrize(
    ("name", "message"),
    [("red--square", "empty label"), ("-red", "empty label"), ("red-red", "names the label 'red' twice")],
)
def test_a_name_that_is_no_label_set_is_refused(make_images, name, message):
    with pytest.raises(UserError, match=message):
        MultiLabelImageFolder(make_images("data", {name: 1}))


def test_labels_that_differ_only_in_case_are_refused(make_images):
    with pytest.raises(UserError, match=r"differ only in case.*: Red, red"):
        MultiLabelImageFolder(make_images("data", {"red-square": 1, "Red": 1}))


def test_labels_that_only_look_alike_are_refused(make_images):
    with pytest.raises(UserError, match="in how an accent is stored"):
        MultiLabelImageFolder(make_images("accents", {"caf\u00e9": 1, "cafe\u0301": 1}))
    with pytest.raises(UserError, match="has the label 'red ' with a space at its end"):
        MultiLabelImageFolder(make_images("spaces", {"red - blue": 1, "red": 1}))


def test_a_missing_folder_is_refused(tmp_path):
    with pytest.raises(UserError, match="there is no folder"):
        MultiLabelImageFolder(tmp_path / "nowhere")


def test_a_folder_without_folders_is_refused(tmp_path):
    Image.new("RGB", (40, 40)).save(tmp_path / "lost.png")
    with pytest.raises(UserError, match="has no label folders"):
        MultiLabelImageFolder(tmp_path)


def test_every_empty_folder_is_named(make_images):
    root = make_images("data", {"red": 1, "blue": 0, "green": 0})
    with pytest.raises(UserError, match=r"no images in 'blue', 'green' of .*fill or remove"):
        MultiLabelImageFolder(root)


def test_a_folder_of_splits_is_not_taken_for_labels(make_images):
    make_images("data/train", {"red": 1})
    root = make_images("data/test", {"red": 1}).parent
    with pytest.raises(UserError, match="those are splits, not labels; name one of them"):
        MultiLabelImageFolder(root)


def test_a_split_that_lacks_a_class_of_training_is_refused(make_images):
    with pytest.raises(UserError, match="lacks 'green', which training has"):
        MultiLabelImageFolder(make_images("data", {"red": 1, "blue": 1}), classes=["blue", "green", "red"])


def test_a_split_with_a_class_that_training_lacks_is_refused(make_images):
    with pytest.raises(UserError, match="has 'blue', which training lacks"):
        MultiLabelImageFolder(make_images("data", {"red": 1, "blue": 1}), classes=["red"])


def spoil(root: Path) -> None:
    (root / "red" / "empty.png").write_bytes(b"")
    (root / "red" / "page.jpg").write_bytes(b"<html>not found</html>")
    whole = (root / "blue" / "000.png").read_bytes()
    (root / "blue" / "cut.png").write_bytes(whole[: len(whole) // 2])


def test_empty_and_unreadable_images_are_refused_and_named(make_images):
    root = make_images("data", {"red": 2, "blue": 2})
    spoil(root)
    with pytest.raises(UserError, match=r"2 unreadable images .*red/empty\.png.*red/page\.jpg.*--check"):
        MultiLabelImageFolder(root)


def test_unreadable_images_are_dropped_on_request(make_images):
    root = make_images("data", {"red": 2, "blue": 2})
    spoil(root)
    data = MultiLabelImageFolder(root, drop_unreadable=True)
    assert len(data) == len(data.targets) == len(data.images) == 4
    assert [path.name for path, _ in data.dropped] == ["cut.png", "empty.png", "page.jpg"]


def test_an_image_that_breaks_off_is_named_when_it_is_read(make_images):
    root = make_images("data", {"red": 1, "blue": 1})
    whole = (root / "blue" / "000.png").read_bytes()
    (root / "blue" / "000.png").write_bytes(whole[: len(whole) // 2])
    data = MultiLabelImageFolder(root)
    with pytest.raises(UserError, match=r"cannot read image '.*blue/000\.png'"):
        data[0]


def test_a_link_that_leaves_the_root_is_refused(make_images, tmp_path):
    root = make_images("data", {"red": 1, "blue": 1})
    secret = tmp_path / "secret.png"
    Image.new("RGB", (40, 40)).save(secret)
    (root / "red" / "link.png").symlink_to(secret)
    with pytest.raises(UserError, match=r"link\.png' is a link that leaves"):
        MultiLabelImageFolder(root)


def test_a_linked_folder_that_leaves_the_root_is_refused(make_images, tmp_path):
    outside = make_images("outside", {"green": 1})
    root = make_images("data", {"red": 1})
    (root / "green").symlink_to(outside / "green")
    with pytest.raises(UserError, match="leaves"):
        MultiLabelImageFolder(root)


def test_a_link_inside_the_root_is_followed(make_images):
    root = make_images("data", {"red": 1, "blue": 1})
    (root / "red" / "again.png").symlink_to(root / "red" / "000.png")
    assert len(MultiLabelImageFolder(root)) == 3


def test_a_link_to_itself_is_an_unreadable_image(make_images):
    root = make_images("data", {"red": 1, "blue": 1})
    (root / "red" / "loop.png").symlink_to("loop.png")
    with pytest.raises(UserError, match=r"1 unreadable images .* 'red/loop\.png'"):
        MultiLabelImageFolder(root)


def test_a_folder_that_is_a_link_to_nothing_is_refused(make_images):
    root = make_images("data", {"red": 1, "blue": 1})
    (root / "green").symlink_to("nowhere")
    with pytest.raises(UserError, match="green' is a broken link"):
        MultiLabelImageFolder(root)


def test_only_files_are_images(make_images):
    root = make_images("data", {"red": 1, "blue": 1})
    os.mkfifo(root / "red" / "pipe.png")
    (root / "red" / "folder.png").mkdir()
    assert len(MultiLabelImageFolder(root)) == 2
    assert find_images(root)[0] == [root / "blue" / "000.png", root / "red" / "000.png"]


def test_names_that_are_no_text_are_refused(make_images):
    root = make_images("data", {"red": 1, "blue": 1})
    (root / "red" / "000.png").rename(root / "red" / os.fsdecode(b"caf\xe9.png"))
    with pytest.raises(UserError, match=r"red/caf\\xe9\.png' is not UTF-8; rename it"):
        MultiLabelImageFolder(root)


def test_label_set_sorts():
    assert label_set("creature-black") == label_set("black-creature") == ("black", "creature")
