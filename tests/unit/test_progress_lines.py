"""Long work of the trainer says in a log how far it is."""

import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from trainer import progress
from trainer.model.callbacks import StepLines

ROOT = Path(__file__).parents[2]


def test_long_work_prints_lines_in_a_log(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture) -> None:
    monkeypatch.setattr(progress, "SECONDS", 0.2)

    for _ in progress.progress(range(10), "drawing", unit=" cards"):
        time.sleep(0.1)

    lines = capfd.readouterr().err.splitlines()
    assert 2 <= len(lines) <= 7
    assert all(line.startswith("drawing:") and "/10" in line for line in lines)


def test_quick_work_prints_nothing_in_a_log(capfd: pytest.CaptureFixture) -> None:
    assert list(progress.progress(range(3), "drawing")) == [0, 1, 2]
    assert capfd.readouterr().err == ""


def test_an_epoch_prints_its_steps_in_a_log(capfd: pytest.CaptureFixture) -> None:
    lines = StepLines()
    lines.seconds = 0.0
    trainer = SimpleNamespace(is_global_zero=True, num_training_batches=40, current_epoch=1, max_epochs=5)
    lines.on_fit_start(trainer, None)
    lines.on_train_batch_end(trainer, None, None, None, 7)
    assert capfd.readouterr().out == "epoch 2/5: step 8/40\n"


def test_every_bar_is_one_that_a_log_can_show() -> None:
    """Nothing else draws a bar: a `tqdm` of its own would be silent or noisy in a log."""
    found = [
        str(path.relative_to(ROOT))
        for room in ("trainer", "cards")
        for path in (ROOT / room).rglob("*.py")
        if " tqdm(" in path.read_text(encoding="utf-8")
    ]
    assert found == ["trainer/progress.py"]


@pytest.mark.parametrize(
    "module", ["data.split", "data.describe", "data.samples", "data.staging", "data.s3", "commands.suspects"]
)
def test_commands_that_handle_files_start_without_pytorch(module: str) -> None:
    """So that a mistake in their arguments is answered at once."""
    code = f"import sys, trainer.{module}; raise SystemExit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, timeout=120, check=False).returncode == 0


def test_a_bar_starts_no_process_where_workers_are_spawned() -> None:
    code = (
        "import multiprocessing, psutil; multiprocessing.set_start_method('spawn'); "
        "from trainer.progress import progress; "
        "list(progress(range(3))); print([child.cmdline() for child in psutil.Process().children()])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
