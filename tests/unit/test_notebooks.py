"""The notebooks run from first to last cell, on a few drawn cards."""

import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from trainer.cli import main

pytestmark = pytest.mark.slow

FOLDER = Path(__file__).resolve().parents[2] / "notebooks"
# In place of the values in the cell that is tagged `parameters`.
SMALL = """
import os

os.environ["MANASIGHT_HOME"] = "{home}"
DATA = Path("{home}/cards")
IMAGES = DATA / "test"
OUT = Path("{home}/table.parquet")
EPOCHS, SIZE, WEIGHTS, SHOWN = 1, "[48,36]", "none", 1
"""


def test_they_run_one_after_the_other(tmp_path, monkeypatch):
    monkeypatch.delenv("MPLBACKEND", raising=False)  # a kernel that inherits another one shows no figures
    assert main(["data", "demo", str(tmp_path / "cards"), "--count", "126"]) == 0
    pictures = {}
    for path in sorted(FOLDER.glob("*.ipynb")):
        notebook = nbformat.read(path, as_version=4)
        (place,) = [k for k, cell in enumerate(notebook.cells) if "parameters" in cell.metadata.get("tags", ())]
        notebook.cells.insert(place + 1, nbformat.v4.new_code_cell(SMALL.format(home=tmp_path)))
        client = NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(FOLDER)}})
        client.execute()
        outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
        pictures[path.stem] = sum(
            {"image/png", "image/jpeg"} & set(output.get("data", ())) != set() for output in outputs
        )
        assert not [output for output in outputs if output.output_type == "error"]
    assert pictures == {"00_explore": 3, "01_train": 3, "02_predict": 2}


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.ipynb")), ids=lambda path: path.stem)
def test_they_are_kept_with_their_pictures_and_without_paths(path):
    text = path.read_text()
    assert '"image/' in text
    assert not re.search(r"/(home|root|Users|tmp)/|[A-Z]:\\\\Users", text)
    assert str(FOLDER.parent) not in text
    assert path.stat().st_size < 1_000_000
