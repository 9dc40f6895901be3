"""`manasight data describe`: counts, exact statistics, and the list of broken images."""

import json

import numpy as np
import pytest
from PIL import Image

from trainer.data.describe import channel_statistics, describe, split_folders
from trainer.data.folder import MultiLabelImageFolder
from trainer.errors import UserError


def test_json_counts_images_classes_and_sizes(make_images, capsys):
    root = make_images("data", {"red-square": 3, "blue": 1})
    describe(root, as_json=True)
    part = json.loads(capsys.readouterr().out)["all"]
    assert part["images"] == 4
    assert part["classes"]["square"] == {"images": 3, "share": 0.75}
    assert part["label_sets"] == {"blue": 1, "red-square": 3}
    assert part["height"] == [48, 48.0, 48]
    assert part["width"] == [36, 36.0, 36]


def test_tables_cover_every_split(make_images, capsys):
    for part in ("train", "val", "test"):
        root = make_images(f"data/{part}", {"red": 2, "blue": 1}).parent
    describe(root)
    printed = capsys.readouterr().out
    assert "train  val  test" in " ".join(printed.split("\n")[1].split()).replace(" ", "  ")
    assert "66.7%" in printed


def test_check_lists_every_broken_image(make_images):
    root = make_images("data", {"red": 2, "blue": 2})
    (root / "red" / "000.png").write_bytes(b"")
    whole = (root / "blue" / "001.png").read_bytes()
    (root / "blue" / "001.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match=r"2 of 4 images are unreadable(.|\n)*blue/001\.png(.|\n)*red/000\.png"):
        describe(root, check=True)


def test_channel_statistics_are_exact(make_images):
    root = make_images("data", {"red": 2, "blue": 1})
    Image.new("RGB", (300, 20), (1, 2, 3)).save(root / "red" / "wide.png")
    data = MultiLabelImageFolder(root)
    mean, deviation = channel_statistics(data)
    pixels = np.concatenate([np.asarray(image).reshape(-1, 3) for image, _ in data]) / 255
    np.testing.assert_allclose(mean, pixels.mean(0), atol=1e-12)
    np.testing.assert_allclose(deviation, pixels.std(0), atol=1e-12)


def test_splits_without_train_are_refused(make_images):
    with pytest.raises(UserError, match="holds test but no train"):
        split_folders(make_images("data/test", {"red": 1}).parent)
