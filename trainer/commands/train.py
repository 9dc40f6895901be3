"""`manasight train`: fit, evaluate, export and promote as one command; `--resume` continues at the right stage."""

import json
from contextlib import suppress

import torch

from trainer import config
from trainer.commands import fit
from trainer.commands.export import is_written, write_model
from trainer.commands.promote import check_labels, promote
from trainer.errors import UserError
from trainer.report.evaluation import is_evaluated, report
from trainer.stopping import RESUMABLE, Stopped
from trainer.tracking.registry import register_model
from trainer.tracking.runs import load_run

STAGES = ("fit", "evaluate", "export", "promote")


def main(args: list[str], prog: str = "manasight train") -> int:
    """Train, evaluate, export and promote a model. The last line of the output is JSON: run, version, champion.

    Labels that could not be compared with the champion's are refused before the training. Under `torchrun`, whose
    processes only train, it ends after the first stage; `manasight train --resume` in one process does the others.

    Returns:
        0, or `RESUMABLE` if it was interrupted and can be resumed.
    """
    job = fit.prepare(config.build_parser(prog, promotes=True), args, may_be_finished=True)
    if job.options.find_learning_rate:
        raise UserError("--find_learning_rate trains no run; use it with `manasight fit`")
    force = (job.options.force or "").strip() or None
    print(check_labels(job.data.root, job.data.form, force), flush=True)
    if job.options.check:
        return 0
    _begin("fit")
    outcome = fit.fit(job)
    if outcome.status or torch.distributed.is_torchelastic_launched():
        return outcome.status
    run_id = str(outcome.run_id)
    again = f"{prog} --resume {run_id}"
    try:
        found = finish(run_id, force)
    except (Stopped, KeyboardInterrupt) as error:
        with suppress(OSError):  # the terminal may be gone
            name = error.name if isinstance(error, Stopped) else "Ctrl-C"
            print(f"stopped by {name}; resume with: {again}", flush=True)
        return RESUMABLE
    except Exception:
        print(f"the model is trained; once the problem is solved, resume with: {again}", flush=True)
        raise
    print(json.dumps(found))
    return 0


def finish(run_id: str, force: str | None) -> dict[str, str | int | bool]:
    """Evaluate, export and promote a trained run. What was done before it was interrupted is not done again.

    Args:
        run_id: the run.
        force: the reason to make it the champion in any case.

    Returns:
        `run`, `version` and whether that is the `champion` now.
    """
    _begin("evaluate")
    trained = load_run(run_id)
    if is_evaluated(trained):
        print(f"run {run_id} has been evaluated: {trained.report}")
    else:
        report(trained)
    _begin("export")
    path = trained.folder / "model.onnx"
    if is_written(trained):
        print(f"run {run_id} has been exported: {path}")
    else:
        write_model(trained)
    version = register_model(run_id, path)
    print(f"registered: version {version}")
    _begin("promote")
    return {"run": run_id, "version": int(version), "champion": promote(version=int(version), force=force)}


def _begin(stage: str) -> None:
    print(f"\ntrain {STAGES.index(stage) + 1} of {len(STAGES)}: {stage}", flush=True)
