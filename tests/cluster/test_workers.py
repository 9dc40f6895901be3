"""The distributed job as containers: the manifest's command and environment, a worker killed, the same result.

The tests play the Job controller: a pod that failed is made again under its name. What it ends with says whether that
would cost one of its tries.
"""

import json
import re
import time
from collections.abc import Iterator

import pytest
from conftest import rendered, small, stand_ins
from manifests import Manifests
from pods import Cluster, Running, cluster, docker, eventually

EPOCHS = 2  # of the experiment `demo`, which the manifests run


def with_workers(count: int) -> Manifests:
    """The local overlay with the component distributed-training and this many workers."""
    manifests = small(rendered("distributed-training"), 180)
    job = manifests.get("CronJob", "trainer")["spec"]["jobTemplate"]["spec"]
    job["completions"] = job["parallelism"] = count
    for container in (*job["template"]["spec"]["initContainers"], *job["template"]["spec"]["containers"]):
        container["command"] = [re.sub(r"^--nnodes=\d+$", f"--nnodes={count}", w) for w in container.get("command", [])]
    return manifests


@pytest.fixture(scope="module")
def namespace(tmp_path_factory) -> Iterator[Cluster]:
    """Database, object store and MLflow, ready for workers."""
    images, paths = stand_ins()
    folder = tmp_path_factory.mktemp("workers")
    options = {"name": "manasight-workers", "images": images, "paths": paths}
    with cluster(with_workers(2), folder, **options) as made:
        for owner in ("StatefulSet/postgres", "StatefulSet/minio", "Deployment/mlflow"):
            made.start(owner).wait_until_ready()
        yield made


def step(running: Running, name: str) -> dict:
    """One of a pod's containers."""
    every = (*running.pod.spec["initContainers"], *running.pod.spec["containers"])
    return next(container for container in every if container["name"] == name)


def train(namespace: Cluster, job: str, workers: int, kill: int | None = None) -> tuple[dict[str, float], float, int]:
    """Run the job; kill a worker in the last epoch if one is named.

    Returns:
        the test split's figures, seconds of training, and how often a pod was started.
    """
    namespace.manifests = with_workers(workers)
    pods = {index: namespace.prepare("CronJob/trainer", index=index, job=job) for index in range(workers)}
    for running in pods.values():
        running.run(step(running, "data"))
    start, starts = time.monotonic(), workers
    for running in pods.values():
        running.launch(step(running, "train"))
    names = {index: running.name(step(running, "train")) for index, running in pods.items()}

    def epochs(number: int) -> bool:
        return any(f"epoch {number}/{EPOCHS}: loss" in docker("logs", name) for name in names.values())

    if kill is not None:
        eventually(lambda: epochs(EPOCHS - 1), "the last epoch", 900)
        time.sleep(3)  # an epoch's state is written after its line
        docker("kill", names[kill])
    left, deadline = set(pods), time.monotonic() + 1500
    while left:
        assert time.monotonic() < deadline, "\n".join(docker("logs", "--tail", "30", name) for name in names.values())
        for index in sorted(left):
            state = json.loads(docker("inspect", "--format", "{{json .State}}", names[index]))
            if state["Status"] != "exited":
                continue
            if state["ExitCode"] == 0:
                left.remove(index)
            else:
                print(f"worker {index} ended with {state['ExitCode']}; the Job makes it again")
                assert index == kill or state["ExitCode"] == 75, docker("logs", "--tail", "30", names[index])
                pods[index] = namespace.prepare("CronJob/trainer", index=index, job=job)
                pods[index].run(step(pods[index], "data"))
                pods[index].launch(step(pods[index], "train"))
                starts += 1
        time.sleep(1)
    seconds = time.monotonic() - start
    logs = [docker("logs", name) for name in names.values()]
    assert sum(f"epoch {EPOCHS}/{EPOCHS}" in log for log in logs) == 1, "\n".join(logs)
    # It went on where it was: what the first worker did last, it did not begin with the first epoch.
    assert kill is None or "epoch 1/" not in logs[0].rpartition("run: ")[2], logs[0]
    # The first worker evaluates, alone.
    evaluated = docker("logs", names[0])
    assert "train 2 of 4: evaluate" in evaluated
    assert "evaluate" not in docker("logs", names[1])
    # A first pod that is lost by then comes back when the others are gone, and goes through its steps without them.
    again = namespace.prepare("CronJob/trainer", index=0, job=job)
    assert "nothing left to train" in again.run(step(again, "train"), timeout=120)
    figures = dict(re.findall(r"(\w+) (\d\.\d+)", evaluated.split("test split of ")[1].partition("\n\n")[0]))
    for running in pods.values():
        docker("rm", "--force", running.name(step(running, "train")))
    return {name: float(value) for name, value in figures.items()}, seconds, starts


@pytest.mark.parametrize(("workers", "killed"), [(2, 1), (4, 0)])
def test_a_killed_worker_costs_time_but_no_quality(namespace, workers, killed):
    whole, whole_seconds, _ = train(namespace, f"whole-{workers}", workers)
    broken, broken_seconds, starts = train(namespace, f"broken-{workers}", workers, kill=killed)
    print(f"{workers} workers, undisturbed: {whole_seconds:.0f} s, {whole}")
    print(f"{workers} workers, worker {killed} killed: {broken_seconds:.0f} s, {starts} pod starts, {broken}")
    assert starts > workers
    for name in ("macro_f1", "map"):
        assert abs(whole[name] - broken[name]) < 0.02, (whole, broken)
