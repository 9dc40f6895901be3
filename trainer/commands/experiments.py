"""`manasight experiments`: frozen, finetune and scratch on one split, compared with each other and with a baseline."""

import argparse
import difflib
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import mlflow
import pandas as pd
import yaml

from trainer import config
from trainer.commands import fit
from trainer.commands.export import is_written, write_model
from trainer.commands.promote import check_labels, promote
from trainer.errors import UserError
from trainer.paths import EXPERIMENTS, home, run_folder
from trainer.report import figures
from trainer.report.evaluation import evaluation_of
from trainer.report.html import Section, save_page
from trainer.tracking.mlflow import connect, experiment_id
from trainer.tracking.registry import register_model
from trainer.tracking.runs import TrainedRun, changed_since, load_run

NAMES = ("frozen", "finetune", "scratch")
FIGURES = ("accuracy", "precision", "recall", "macro_f1", "map", "exact_match", "calibration_error")
HELP = """Train frozen, finetune and scratch on the same split, compare them and promote the best.

They become three runs of one MLflow experiment, each evaluated and exported. The best on the validation split is
registered and promoted if it beats the champion. The comparison, as CSV and as a page with charts, is logged to all
three. Every other option of `manasight fit` is passed on to all three, as in --trainer.max_epochs 5."""


class Parser(argparse.ArgumentParser):
    """Argparse's parser without its screen of usage."""

    def error(self, message: str) -> NoReturn:
        """Say what is wrong with the options.

        Raises:
            UserError: always.
        """
        raise UserError(f"{message}{' See' if message.endswith('?') else '; see'} `{self.prog} --help`")


def main(args: list[str], prog: str = "manasight experiments") -> int:
    """Run and compare the experiments. Returns 0, or the status of a training that was stopped early."""
    parser = Parser(prog=prog, description=HELP, allow_abbrev=False, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", type=Path, metavar="ROOT", help="the folder of splits (required)")
    parser.add_argument("--experiment", default="comparison", metavar="NAME", help="MLflow experiment")
    parser.add_argument(
        "--model.weights",
        dest="weights",
        default="imagenet",
        help="where frozen and finetune start: imagenet, torchvision's .pth file, or a model.onnx (default: imagenet)",
    )
    parser.add_argument(
        "--force", metavar="REASON", help="make the best run the champion in any case, as when the labels changed"
    )
    parser.add_argument(
        "--baseline",
        type=Path,
        metavar="FILE",
        help="published figures to compare with (docs/training.md)",
    )
    parser.add_argument("--resume", action="store_true", help="keep what is trained, and train the rest")
    options, rest = parser.parse_known_args(args)
    if options.data is None:
        near = difflib.get_close_matches(
            "--data", [word.partition("=")[0] for word in rest if "." not in word.partition("=")[0]], 1
        )
        parser.error(
            f"there is no option '{near[0]}', did you mean '--data'?"
            if near
            else "the folder of splits is required: --data ROOT"
        )
    baseline = read_baseline(options.baseline) if options.baseline else None
    commands = {name: command(name, options, rest) for name in NAMES}
    if Path(options.experiment).name != options.experiment:
        raise UserError(f"--experiment '{options.experiment}' names a folder too; give a name without a slash")
    checker = config.build_parser(prog)
    for name, words in commands.items():  # all mistakes before any training
        parsed = checker.parse_args(words)
        if (parsed.name, parsed.experiment) != (name, options.experiment):
            raise UserError(
                "the runs are named frozen, finetune and scratch, their experiment by --experiment alone; leave out "
                "--name, and take name and experiment out of --config"
            )
        if parsed.find_learning_rate:
            raise UserError("--find_learning_rate is for `manasight fit`; experiments train")
        config.check(parsed)
        data = checker.instantiate(parsed).data
        data.setup("fit")
    check_labels(options.data, data.form, options.force)
    client = connect()
    experiment = experiment_id(client, options.experiment)
    known = {name: newest_run(client, experiment, name) if options.resume else None for name in NAMES}
    for name, run in known.items():
        if run:
            config.check_unchanged(checker, commands[name], run.info.run_id, changes=("data.workers", "data.cache"))
            if changed := changed_since(client, run.info.run_id, data):
                raise UserError(f"{changed}; restore the images, or train all three again without --resume")
    with resumable(prog):
        runs, trained = {}, {}
        for name, words in commands.items():
            print(f"{name}:", flush=True)
            run = known[name]
            if run is None or run.info.status != "FINISHED":
                outcome = fit.fit(fit.prepare(checker, words + (["--resume", run.info.run_id] if run else [])))
                if outcome.status:
                    print(f"resume all of it with: {prog} --resume and the same options")
                    return outcome.status
                runs[name] = str(outcome.run_id)
            else:
                print(f"run {run.info.run_id} has finished", flush=True)
                runs[name] = run.info.run_id
            trained[name] = load_run(runs[name])
            if not is_written(trained[name]):
                write_model(trained[name])
        folder = home() / "experiments" / options.experiment
        folder.mkdir(parents=True, exist_ok=True)
        rows = {name: row(client, run) for name, run in trained.items()}
        winner = max(rows, key=lambda name: rows[name]["val_macro_f1"])
        table = compare(rows, baseline, trained[winner].model.classes)
        write(client, folder, table, runs, winner, options, baseline)
        print(f"\n{table.to_string(float_format='{:.3f}'.format, na_rep='')}\n\nbest on the validation split: {winner}")
        version = register_model(runs[winner], run_folder(runs[winner]) / "model.onnx")
        promote(version=int(version), force=options.force)
        print(f"results: {folder / 'comparison.html'}")
        return 0


@contextmanager
def resumable(prog: str) -> Iterator[None]:
    """Say how to resume if Ctrl-C or SIGTERM ends the block."""
    try:
        yield
    except (KeyboardInterrupt, SystemExit):
        print(f"stopped; resume all of it with: {prog} --resume and the same options", flush=True)
        raise


def command(name: str, options: argparse.Namespace, rest: list[str]) -> list[str]:
    """The arguments of `manasight fit` for one experiment. Only `scratch` keeps the weights that its file names."""
    words = ["--config", str(EXPERIMENTS / f"{name}.yaml"), "--experiment", options.experiment, "--name", name]
    words += ["--data.root", str(options.data)]
    return words + ([] if name == "scratch" else ["--model.weights", options.weights]) + rest


def newest_run(client: mlflow.MlflowClient, experiment: str, name: str) -> mlflow.entities.Run | None:
    """The newest run of an experiment that can be resumed on this machine."""
    order = ["attributes.start_time DESC"]
    found = client.search_runs([experiment], f"attributes.run_name = '{name}'", order_by=order)
    return next((run for run in found if (run_folder(run.info.run_id) / "config.yaml").is_file()), None)


def row(client: mlflow.MlflowClient, trained: TrainedRun) -> dict[str, Any]:
    """A run's line in the table: figures of the test split at 0.5, the time that training took, how far it went."""
    metrics = evaluation_of(trained)["metrics"]
    logged = client.get_run(trained.run_id).data.metrics
    return {
        **{name: metrics["test"][name] for name in FIGURES},
        "val_macro_f1": metrics["val"]["macro_f1"],
        "minutes": logged["train_seconds"] / 60,
        "epochs": len({point.step for point in client.get_metric_history(trained.run_id, "val_macro_f1")}),
        "run": trained.run_id[:8],
    }


def read_baseline(path: Path) -> dict[str, Any]:
    """Figures that somebody published: `note` (text), `classes` (names), `experiments` (name → figure → number).

    Raises:
        UserError: if the file cannot be read or has another form.
    """
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        problem = getattr(error, "strerror", None) or " ".join(str(error).split())
        raise UserError(f"cannot read the baseline '{path}': {problem}") from error
    try:
        return {
            "note": str(found["note"]),
            "classes": set(map(str, found["classes"])),
            "experiments": {
                str(name): {str(figure): float(value) for figure, value in figures.items()}
                for name, figures in found["experiments"].items()
            },
        }
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"the baseline '{path}' needs a note, a list of classes, and experiments with numbers; see docs/training.md"
        ) from error


def compare(
    rows: Mapping[str, Mapping[str, Any]], baseline: Mapping[str, Any] | None, classes: Collection[str]
) -> pd.DataFrame:
    """The table: each experiment, beside the baseline's figures if that is about the same classes."""
    table = pd.DataFrame(rows).T.infer_objects()
    if baseline and set(classes) == baseline["classes"]:
        table = table.join(pd.DataFrame(baseline["experiments"]).T.add_prefix("baseline_"))
    elif baseline:
        print(f"the baseline is left out: its classes are {', '.join(sorted(baseline['classes']))}")
    table["run"] = table.pop("run")
    table.index.name = "experiment"
    return table


def write(
    client: mlflow.MlflowClient,
    folder: Path,
    table: pd.DataFrame,
    runs: Mapping[str, str],
    winner: str,
    options: argparse.Namespace,
    baseline: Mapping[str, Any] | None,
) -> None:
    """Write the comparison as CSV, as charts and as a page, and log it to every run."""
    table.round(4).to_csv(folder / "comparison.csv")
    histories = {
        name: [point.value for point in client.get_metric_history(run_id, "val_macro_f1")]
        for name, run_id in runs.items()
    }
    charts = [folder / "figures.png", folder / "epochs.png"]
    figures.save_bars(table, ("accuracy", "precision", "recall", "minutes"), charts[0])
    figures.save_epochs(histories, charts[1])
    started = f"frozen and finetune started from {options.weights}"
    note = f"Macro averages on the test split at a threshold of 0.5; {started}. Best on the validation split: {winner}."
    beside = Section("Side by side", "", None, charts[:1])
    if baseline and any(name.startswith("baseline_") for name in table):
        note += f" {baseline['note']}"
        beside = Section("Beside the baseline", "Dark: here; light: as published.", None, charts[:1])
    sections = [
        # Turned: a dozen figures in a row would not fit on a screen.
        Section("Figures", note, table.T.rename(index=lambda name: name.replace("_", " "))),
        beside,
        Section("Epoch by epoch", "Macro F1 on the validation split.", None, charts[1:]),
    ]
    save_page("Three experiments", options.data.resolve().name, sections, folder / "comparison.html")
    for run_id in runs.values():
        client.log_artifacts(run_id, str(folder), "comparison")
