"""Faults on the running stack, under load, at random moments from a printed seed: nothing acknowledged may be lost."""

import itertools
import random
import subprocess
import time
from contextlib import ExitStack

import mlflow
import pytest
from engine import ROOT, container
from faults import KINDS, SERVICES, VOLUMES, healthy, restart_engine, until
from load import Load, card, impatient

# Seconds that a fault lasts, at most: in the short form, in the long one.
LONGEST = (8, 15)
JOB = {"CARDS": "300", "ARGS": "--trainer.max_epochs 6 --data.input_size [64,48]"}


class Job:
    """`make train` beside the faults; started again when it has ended."""

    def __init__(self, stack) -> None:
        """Start the first."""
        self.stack, self.ended, self.refused, self.starved = stack, 0, 0, False
        self.start()

    def start(self) -> None:
        """Start the next, and wait for its first step: what hits the stack before is not a fault of a training."""
        self.process = subprocess.Popen(
            [*self.stack.command, "train"],
            cwd=ROOT,
            env=self.stack.environment | JOB,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        until(lambda: container("trainer") or self.process.poll() is not None, "a trainer there", 600)

    def keep_going(self) -> None:
        """See to it that a job runs."""
        if self.process.poll() is not None:
            self.finish()
            self.start()

    def hit(self, kind: str, active: ExitStack) -> None:
        """Break the step that runs; one that ends in that very moment gives way to the next."""
        for attempt in range(5):
            until(lambda: self.keep_going() or container("trainer"), "a trainer there", 300)
            self.starved |= kind == "disk full"
            step = container("trainer")
            try:
                active.enter_context(KINDS[kind]("trainer"))
                return
            except AssertionError:
                if attempt == 4 or container("trainer") == step:
                    raise

    def finish(self) -> None:
        """Wait for the job's end, which must be as if nothing had happened; or a sentence, if its own disk was full."""
        output, _ = self.process.communicate(timeout=900)
        if self.starved and self.process.returncode != 0:
            assert "is full; free some space" in output, output[-4000:]
            assert "Traceback" not in output
            self.refused += 1
        else:
            assert self.process.returncode == 0, output[-4000:]
            self.ended += 1
        self.starved = False


def plan(rng: random.Random, long: bool) -> list[list[tuple[str, str]]]:
    """Which faults come one after the other; those of one entry come together."""
    singles = [
        (kind, service)
        for kind in KINDS
        for service in (*SERVICES, "trainer")
        if kind != "disk full" or service in VOLUMES
    ]
    if not long:
        # One of each kind, each service hit, and one pair.
        chosen = [
            ("killed", "postgres"),
            ("paused", "mlflow"),
            ("cut off", "minio"),
            ("killed", "trainer"),
            ("killed", "app"),
        ]
        rng.shuffle(chosen)
        return [[fault] for fault in chosen[:3]] + [chosen[3:], [("disk full", "minio")]]
    pairs = list(itertools.combinations((*SERVICES, "trainer"), 2))
    kinds = [kind for kind in KINDS if kind != "disk full"]
    together = [[(rng.choice(kinds), one), (rng.choice(kinds), other)] for one, other in pairs]
    found = [[fault] for fault in singles] + together
    rng.shuffle(found)
    return found


def check_jobs(client: mlflow.MlflowClient, job: Job) -> None:
    """Every job that ended well left one finished run with each step once, and a registered model."""
    experiment = client.get_experiment_by_name("manasight").experiment_id
    runs = client.search_runs([experiment])
    whole = [run for run in runs if client.search_model_versions(f"run_id = '{run.info.run_id}'")]
    statuses = [run.info.status for run in runs]
    assert len(whole) == job.ended, f"{job.ended} jobs ended well, {len(whole)} models are there: {statuses}"
    assert len(runs) - len(whole) <= job.refused, statuses
    assert set(statuses) <= ({"FINISHED", "FAILED"} if job.refused else {"FINISHED"}), statuses
    for run in whole:
        for name, least in (("val_macro_f1", 6), ("train_loss_step", 6)):
            steps = [point.step for point in client.get_metric_history(run.info.run_id, name)]
            assert len(set(steps)) >= least, (name, steps)
            assert len(steps) == len(set(steps)), f"{name}: a step came twice: {steps}"


@pytest.mark.timeout(4 * 3600)
def test_nothing_acknowledged_is_lost(stack, request, capsys):
    seed, long = request.config.getoption("seed"), request.config.getoption("long")
    rng = random.Random(seed)
    impatient()
    tracking = f"http://127.0.0.1:{stack.ports['MLFLOW_PORT']}"
    mlflow.set_tracking_uri(tracking)
    client = mlflow.MlflowClient(tracking)
    rows, may_drop = [], []

    def say(line: str) -> None:
        with capsys.disabled():
            print(line, flush=True)

    say(f"\nseed {seed}: repeat with --seed {seed}{' --long' if long else ''}")
    say(f"{'fault':44}{'lasted':>8}{'well after':>12}{'acknowledged':>14}{'lost':>6}")
    with Load(f"http://127.0.0.1:{stack.ports['PORT']}", tracking, card()) as load:
        job = Job(stack)
        for faults in plan(rng, long):
            time.sleep(rng.uniform(1, LONGEST[long] / 2))
            job.keep_going()
            name = " + ".join(f"{service} {kind}" for kind, service in faults)
            start = time.monotonic()
            with ExitStack() as active:
                # The trainer first, before it ends by itself.
                for kind, service in sorted(faults, key=lambda fault: fault[1] != "trainer"):
                    if service == "trainer":
                        job.hit(kind, active)
                    else:
                        active.enter_context(KINDS[kind](service))
                lasted = rng.uniform(2, LONGEST[long])
                time.sleep(lasted)
            well = until(healthy, f"well after: {name} (seed {seed})", 240)
            if any(service == "app" for _, service in faults):
                may_drop.append((start - 1, time.monotonic() + 1))
            found = load.book.check(client)
            rows.append(name)
            say(f"{name:44}{lasted:6.0f} s{well:10.0f} s{found.total():14}{0:6}")
        if long:
            job.finish()
            start = time.monotonic()
            restart_engine()
            well = until(healthy, "well after the engine's restart", 300)
            may_drop.append((start - 1, time.monotonic() + 1))
            say(f"{'engine restarted':44}{'':8}{well:10.0f} s{load.book.check(client).total():14}{0:6}")
            job.start()
    job.finish()
    found = load.book.check(client, again=True)
    check_jobs(client, job)
    lost = [moment for moment in load.dropped if not any(begin <= moment <= end for begin, end in may_drop)]
    say(f"MLflow kept {dict(found)} and refused {load.book.refused}; the app: {dict(load.answers)}")
    say(f"{len(load.dropped)} requests were cut off with the app itself; {job.ended} jobs ended as if nothing had been")
    say(f"{job.refused} jobs said that their own disk was full")
    assert not load.wrong, load.wrong[:3]
    assert not lost, f"{len(lost)} requests got no answer while the app was well"
    assert load.answers["answered"] > 20 * len(rows)
    assert found["runs"] > 2 * len(rows)
