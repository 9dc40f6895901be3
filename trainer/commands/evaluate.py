"""`manasight evaluate`: measures a trained run on its validation and test split."""

from pathlib import Path

from trainer.paths import program
from trainer.report.evaluation import report
from trainer.tracking.runs import load_run


def evaluate(run: str = "latest", data: Path | None = None) -> None:
    """Measure a trained run on its test split and log figures, tables and images to its MLflow run.

    Args:
        run: the run's ID, the beginning of one, or latest.
        data: another folder of splits than the run's own.
    """
    trained = load_run(run, data)
    report(trained)
    print(f"next: {program()} export --run {trained.run_id}")
