"""Labels from tables as everyday programs write them: what is read of each, and one sentence about what is not."""

import csv
import json
import shutil
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest
from table_texts import LABELS, TASK, TEXTS

from trainer.cli import main
from trainer.data.describe import examine
from trainer.data.fingerprint import MANIFEST
from trainer.data.labeled import LabeledImages
from trainer.data.module import MultiLabelDataModule
from trainer.data.samples import Format, find_splits, read_samples
from trainer.errors import UserError

SETS = ["red-square", "blue-square", "red", "blue", "_none"]


@pytest.fixture
def folder(make_images: Callable[..., Path]) -> Path:
    """A folder `pictures` with a.png, b.png and c.png, and beside it room for a table."""
    root = make_images("data", {"pictures": 3})
    for number, name in enumerate(LABELS):
        (root / "pictures" / f"{number:03}.png").rename(root / "pictures" / name)
    return root


def read(table: Path, form: Format = Format()) -> dict[str, tuple[str, ...]]:  # noqa: B008 (immutable)
    return {sample.path.name: sample.labels for sample in read_samples(table, form).images}


@pytest.mark.parametrize(("name", "text"), TEXTS.values(), ids=TEXTS)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "CRLF"])
def test_a_table_is_read(folder, name, text, encoding):
    if encoding == "CRLF":
        text, encoding = text.replace("\r\n", "\n").replace("\n", "\r\n"), "utf-8"
    if encoding == "utf-16-le" and name.endswith("xml"):
        return
    for extra in "de":
        shutil.copy(folder / "pictures" / "a.png", folder / "pictures" / f"{extra}.png")
    (folder / name).write_bytes(text.encode(encoding))
    found = read(folder / name)
    assert {name: found[name] for name in LABELS} == LABELS


def test_parquet_is_read(folder):
    import pandas as pd

    table = folder / "x.parquet"
    pd.DataFrame({"file": [*LABELS], "labels": [list(labels) for labels in LABELS.values()]}).to_parquet(table)
    assert read(table) == LABELS
    pd.DataFrame({"file": [*LABELS], "red": [1, 0, 0], "square": [True, False, False], "blue": [0, 1, 0]}).to_parquet(
        table
    )
    assert read(table) == LABELS


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "'x.csv' has no rows"),
        ("file,labels\n", "'x.csv' has no rows"),
        ("file,labels\na.png,red,square\n", "row 2 of 'x.csv' has 3 cells, and the first row 2; put quotes around"),
        (
            "file,labels\na.png,red\n\nb.png,blue\na.png,blue\n",
            "rows 2 and 5 of 'x.csv' give 'pictures/a.png' different",
        ),
        ("file,labels\n,red\n", "row 2 of 'x.csv' names no file"),
        ("file,labels\nno.png,red\n", "no image that 'x.csv' lists, such as 'no.png', is beside 'x.csv'"),
        (
            "file,labels\nhttps://example.org/a.png,red\n",
            "row 2 of 'x.csv' has the address 'https://example.org/a.png'",
        ),
        ("file,labels\na.png,red\nb.png,Red\n", "labels in 'x.csv' differ only in case"),
        ("file,labels\na.png,\n", "the column 'labels' of 'x.csv' has no labels"),
        ("what,labels\na.png,red\n", "'x.csv' has no column of files among 'what', 'labels'; call it 'file'"),
        (
            "file,width,height\na.png,4,5\n",
            "'x.csv' has the columns 'file', 'width', 'height'; call that of the labels",
        ),
        (
            "file,red,blue\na.png,1,0\nb.png,0,1\nc.png,1,1\nd.png,0,1\ne.png,?,0\n",
            "row 6 of 'x.csv' has '?' in the column 'red', whose other cells are 0 and 1",
        ),
        ("file,red,blue\na.png,1,0\nb.png,-1,1\nc.png,0,1\n", "the column 'red' of 'x.csv' has -1, 0 and 1"),
        (
            "file,labels\na.png,red;box\nb.png,blue-box\nc.png,red-box-green\n",
            "labels in the column 'labels' of 'x.csv' are separated by ';' in some rows and by '-' in others (row 3:",
        ),
        ("file,labels,split\na.png,red,train\nb.png,blue,holdout\n", "row 3 of 'x.csv' has the split 'holdout'; call"),
        ("file,labels,split\na.png,red,train\nb.png,blue,\n", "row 3 of 'x.csv' has the split ''; call splits train"),
        ("file,labels,partition\na.png,red,0\nb.png,blue,1\n", "row 2 of 'x.csv' has the split '0'; call splits"),
        ("file,labels\nx/a.png,red\ny/a.png,blue\n", "rows 2 and 3 of 'x.csv' name 'x/a.png' and 'y/a.png', and only"),
        ("file,labels\n./a.png,red\nz/../a.png,blue\n", "rows 2 and 3 of 'x.csv' give 'pictures/a.png' different la"),
        ("file,suggested\na.png,red\n", "the column 'suggested' of 'x.csv' has guesses of a model; correct them"),
        ("file,red,red\na.png,1,0\n", "'x.csv' has the column 'red' twice"),
        ("file,labels\na.png,r\x1b[31med\n", "row 2 of 'x.csv' has the label 'r\\x1b[31med', with characters that"),
        (b"file,labels\na.png,gr\xfcn\n", "row 2 of 'x.csv' is not UTF-8; save the table as"),
        ('file,labels\n"a.png,' + "x" * 200_000, "row 2 of 'x.csv' cannot be read: field larger"),
        ("x" * 200_000, "row 1 of 'x.csv' cannot be read: field larger"),
    ],
)
def test_a_table_that_is_not_understood_gets_one_sentence(folder, capsys, monkeypatch, text, says):
    monkeypatch.chdir(folder)
    Path("x.csv").write_bytes(text if isinstance(text, bytes) else text.encode())
    assert main(["data", "describe", "x.csv"]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"manasight: {says}"), said
    assert said.count("\n") == 1


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("x.jsonl", '{"file": "a.png"', "row 1 of 'x.jsonl' is not JSON"),
        ("x.jsonl", "[]", "row 1 of 'x.jsonl' is not an object"),
        ("x.json", '[{"annotations": 5}]', "row 1 of 'x.json' is not a task"),
        ("x.json", '[{"annotations": [{"result": [[]]}], "data": {}}]', "row 1 of 'x.json' is not a task"),
        ("x.json", '[{"annotations": [{}], "data": []}]', "row 1 of 'x.json' is not a task"),
        ("x.jsonl", '{"file": "a.png", "labels": [1, 0]}', "the column 'labels' of 'x.jsonl' has lists of 0 and 1"),
        ("x.jsonl", '{"file": "a.png", "labels": "\\ud800"}', "row 1 of 'x.jsonl' has the label '\\ud800', with"),
        ("x.json", "[" * 100_000, "'x.json' is not JSON: it is nested too deeply"),
        ("x.jsonl", '{"file": ' + "9" * 5000, "row 1 of 'x.jsonl' is not JSON: it is nested too deeply, or a number"),
        ("x.json", "3", "'x.json' is not a list of images with labels"),
        ("x.xml", "<a/>", "'x.xml' lists no images"),
        ("x.xml", "<a", "'x.xml' is not XML"),
        ("x.parquet", "PAR", "'x.parquet' cannot be read as Parquet"),
        ("x.txt", "a.png", "'x.txt' is neither a folder nor a table"),
    ],
)
def test_other_files_that_are_not_understood(folder, capsys, monkeypatch, name, text, says):
    monkeypatch.chdir(folder)
    Path(name).write_text(text)
    assert main(["data", "describe", name]) == 2
    assert capsys.readouterr().err.startswith(f"manasight: {says}")


def test_missing_files_are_named_by_row_and_can_be_left_out(folder):
    table = folder / "x.csv"
    table.write_text("file,labels\na.png,red\ngone.png,blue\nb.png,blue\n")
    with pytest.raises(UserError, match=r"1 images of .* are missing; row 3 of 'x.csv': there is no such file: .*gone"):
        LabeledImages(table)
    assert len(LabeledImages(table, drop_unreadable=True)) == 2


def test_a_path_of_another_machine_is_found_by_its_longest_end(make_images, tmp_path):
    root = make_images("data", {"a": 2, "b": 2})
    table = root / "x.csv"
    for start in ("/home/else/pictures/", "C:\\pictures\\", "./b/../"):
        table.write_text(f"file,labels\n{start}a/000.png,red\n{start}b/000.png,blue\n")
        found = {sample.path.relative_to(root).as_posix(): sample.labels for sample in read_samples(table).images}
        assert found == {"a/000.png": ("red",), "b/000.png": ("blue",)}
    table.write_text("file,labels\n000.png,red\n001.png,blue\n")
    with pytest.raises(UserError, match=r"could be those in '.*/a' or in '.*/b'; name their folder with --images"):
        read(table)
    (root / "b" / "001.png").unlink()
    assert any("images are taken from" in hint and "/a'" in hint for hint in read_samples(table).hints)


def test_tasks_that_nobody_labeled_are_no_negatives(folder):
    tasks = [
        TASK | {"data": {"image": "a.png"}},
        {"data": {"image": "b.png"}, "annotations": [{"was_cancelled": True, "result": []}]},
        {"data": {"image": "c.png"}, "annotations": []},
        {"data": {"image": "c.png"}, "annotations": [{"result": []}, {"result": []}]},
    ]
    (folder / "x.json").write_text(json.dumps(tasks))
    found = read_samples(folder / "x.json")
    assert [(sample.path.name, sample.labels) for sample in found.images] == [
        ("a.png", ("red", "square")),
        ("c.png", ()),
    ]
    assert found.hints[:2] == [
        "'x.json': tasks left out because nobody has labeled them: 2",
        "'x.json': tasks with several annotations, of which the first one counts: 1",
    ]


def test_what_may_not_be_meant_is_said(folder):
    (folder / "x.csv").write_text("file,label,tags\ra.png,red,x\rb.png,nan,y\ra.png,red,x\r")
    _, *hints = read_samples(folder / "x.csv").hints
    assert hints == [
        "'x.csv': columns that are not read: 'tags'",
        "'x.csv': 'nan' counts as a label; leave the cell empty if an image has none",
        f"'x.csv': images are taken from '{folder / 'pictures'}'",
        "'x.csv': rows that repeat an image: 1",
    ]


def test_another_separator_is_suggested(folder):
    (folder / "x.csv").write_text("file,labels\na.png,red_box\nb.png,blue_box\nc.png,red_disc\nd.png,blue_disc\n")
    hint = "4 label sets, 4 labels: did you mean --separator _ (4 labels: blue, box, disc, red)?"
    assert hint not in read_samples(folder / "x.csv").hints  # not fewer labels than sets
    with (folder / "x.csv").open("a") as file:
        file.write("e.png,red_ball\nf.png,blue_ball\n")
    assert any(
        "did you mean --separator _ (5 labels: ball, blue, " in one for one in read_samples(folder / "x.csv").hints
    )


def test_labels_without_a_header_may_share_a_cell(folder):
    (folder / "x.csv").write_text("a.png,red;square\nb.png,blue\nc.png,\n")
    assert read(folder / "x.csv") == LABELS


def test_signs_within_labels_are_no_separators(folder):
    (folder / "x.csv").write_text("file,labels\na.png,living room;t-shirt\nb.png,living room\nc.png,t-shirt\n")
    assert read(folder / "x.csv")["a.png"] == ("living room", "t-shirt")
    shades = [f"{shade} {color}" for shade in ("light", "dark", "pale") for color in ("red", "green", "blue")]
    (folder / "x.csv").write_text(
        "file,labels\na.png,cat;dog\n" + "".join(f"{n}.png,{s}\n" for n, s in enumerate(shades))
    )
    assert set(shades) <= set(read_samples(folder / "x.csv").labels)


def test_the_separator_can_be_given(folder):
    (folder / "x.csv").write_text("file,labels\na.png,light blue_red\nb.png,light blue\n")
    assert read(folder / "x.csv")["a.png"] == ("light blue_red",)
    assert read(folder / "x.csv", Format("_"))["a.png"] == ("light blue", "red")


def test_the_folder_of_the_images_can_be_given(folder, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    table = tmp_path / "elsewhere" / "x.csv"
    table.write_text("file,labels\na,red\nb,blue\n")
    with pytest.raises(UserError, match="name their folder with --images"):
        read(table)
    assert len(read(table, Format(images=str(folder / "pictures")))) == 2


@pytest.fixture
def labeled(make_images: Callable[..., Path]) -> Path:
    """A table of 5 × 12 images in one folder, with their labels."""
    root = make_images("data", dict.fromkeys(SETS, 12))
    with (root / "labels.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["file", "labels"])
        for path in sorted(root.rglob("*.png")):
            name = path.parent.name
            writer.writerow([path.relative_to(root), "" if name == "_none" else name.replace("-", ", ")])
    return root / "labels.csv"


def test_a_table_is_split_without_copying_an_image(labeled, capsys, tmp_path):
    out = tmp_path / "else" / "where"
    assert main(["data", "split", str(labeled), str(out)]) == 0
    note, sizes, _, results = capsys.readouterr().out.splitlines()
    assert "labels are in the column 'labels', separated by ','" in note
    assert sizes.startswith("train ")
    assert results == f"results: {out}"
    assert sorted(path.name for path in out.iterdir()) == [MANIFEST, "test.jsonl", "train.jsonl", "val.jsonl"]
    data = MultiLabelDataModule(out, input_size=(48, 36), workers=0)
    data.setup("fit")
    assert data.classes == ["blue", "red", "square"]
    assert sum(len(data.dataset(split)) for split in ("train", "val", "test")) == 60
    assert main(["data", "describe", str(out), "--check"]) == 0
    assert "all 60 images are readable" in capsys.readouterr().out
    assert main(["data", "split", str(labeled), str(tmp_path / "copies"), "--mode", "copy"]) == 2
    assert "the images of a table stay where they are" in capsys.readouterr().err


def test_a_folder_can_be_split_into_tables_too(labeled, tmp_path):
    folder = labeled.parent
    assert main(["data", "split", str(folder), str(tmp_path / "copied")]) == 0
    assert main(["data", "split", str(folder), str(tmp_path / "tables"), "--mode", "table"]) == 0
    for split, part in find_splits(tmp_path / "tables").items():
        copied = read_samples(tmp_path / "copied" / split)
        rows = read_samples(part)
        names = [(sample.labels, sample.path.name) for sample in copied.images]
        assert sorted(names) == sorted((sample.labels, sample.path.name) for sample in rows.images)


def test_a_column_can_name_the_splits(labeled, capsys):
    rows = labeled.read_text().splitlines()
    parts = ["train", "Train", "valid", "test"]
    lines = [f"{row},{parts[number % 4]}" for number, row in enumerate(rows[1:])]
    labeled.write_text("\n".join([f"{rows[0]},split", *lines]))
    data = MultiLabelDataModule(labeled, input_size=(48, 36), workers=0)
    data.setup("fit")
    assert [len(data.dataset(split)) for split in ("train", "val", "test")] == [30, 15, 15]
    assert main(["data", "describe", str(labeled)]) == 0
    assert "30" in capsys.readouterr().out


def test_a_table_without_splits_gets_the_command_that_makes_them(labeled, capsys):
    assert main(["fit", "--data.root", str(labeled), "--model.weights", "none"]) == 2
    said = capsys.readouterr().err
    assert f"'{labeled}' is not split into train, val, test; make it with `manasight data split {labeled}" in said


def test_hugging_faces_folders_are_splits(make_images):
    for split in ("train", "validation", "test"):
        root = make_images("hub", {split: 2})
        lines = [json.dumps({"file_name": f"{n:03}.png", "labels": [label]}) for n, label in enumerate(("red", "blue"))]
        (root / split / "metadata.jsonl").write_text("\n".join(lines))
    data = MultiLabelDataModule(root, input_size=(48, 36), workers=0)
    data.setup("fit")
    assert data.classes == ["blue", "red"]


def test_a_split_without_a_label_and_one_with_a_label_of_its_own_are_refused(labeled, capsys):
    head, *rows = labeled.read_text().splitlines()
    negative = [f"{row},{'test' if row.endswith(',') else 'train'}" for row in rows]
    labeled.write_text("\n".join([f"{head},split", *negative]))
    with pytest.raises(UserError, match="has no val split"):
        MultiLabelDataModule(labeled, workers=0).setup("fit")
    out = labeled.parent / "new.csv"
    parts = ["train" if "square" not in row else "test" for row in rows]
    out.write_text("\n".join([f"{head},split", *(f"{row},{part}" for row, part in zip(rows, parts, strict=True))]))
    with pytest.raises(UserError, match="has 'square', which training lacks"):
        LabeledImages(out / "test", classes=["blue", "red"])


def test_a_row_takes_less_than_two_kilobytes(folder):
    image = (folder / "pictures" / "a.png").read_bytes()
    for number in range(1200):
        (folder / "pictures" / f"{number:04}.png").write_bytes(image)
    rows = [f"pictures/{number:04}.png,{('red', 'blue')[number % 2]}" for number in range(1200)]
    peaks = []
    for count in (200, 1200):
        (folder / "x.csv").write_text("\n".join(["file,labels", *rows[:count]]))
        tracemalloc.start()
        examine(folder / "x.csv", decode=False)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] - peaks[0] < 2048 * 1000


@pytest.mark.slow
@pytest.mark.usefixtures("home")
def test_predictions_train_again(labeled, tmp_path, capsys):
    fit = ["--data.input_size=[48,36]", "--data.workers=0", "--model.weights=none", "--trainer.max_epochs=1"]
    assert main(["data", "split", str(labeled), "splits"]) == 0
    assert main(["fit", "--data.root=splits", *fit]) == 0
    assert main(["evaluate"]) == 0
    assert main(["export"]) == 0
    model = max(tmp_path.rglob("model.onnx"), key=lambda path: path.stat().st_mtime)
    assert main(["predict", str(labeled.parent), "--model", str(model), "--out", "predictions.csv"]) == 0
    with Path("predictions.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    truth = {str(sample.path): "-".join(sample.labels) for sample in read_samples(labeled).images}
    with Path("predictions.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows(row | {"labels": truth[row["file"]]} for row in rows)
    assert read(Path("predictions.csv")).keys() == read(labeled).keys()
    assert main(["data", "split", "predictions.csv", "again"]) == 0
    assert main(["fit", "--data.root=again", *fit]) == 0
