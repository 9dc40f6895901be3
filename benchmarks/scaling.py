"""Measures the cost of a unit of each kind of load, in CPU seconds and bytes: the figures of docs/scaling.md.

    python benchmarks/scaling.py [--predictions N] [--runs N]

CPU seconds of the serving process, not times on a clock: other work on the machine changes those, and hardly these.
"""

import argparse
import io
import os
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import mlflow
import psutil
import requests
from PIL import Image
from servers import ROOT, app, memory, mlflow_server

os.environ["MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT"] = "true"
SAMPLE = ROOT / "app" / "samples" / "blue-mana.jpg"


def spent(process: psutil.Process) -> float:
    """CPU seconds of a process and its children."""
    family = [process, *process.children(recursive=True)]
    return sum(times.user + times.system for times in (member.cpu_times() for member in family))


def cost(process: psutil.Process, work: Callable[[], int]) -> float:
    """CPU seconds of a server per unit of the work that it is given."""
    before = spent(process)
    units = work()
    return (spent(process) - before) / units


def measure_app(predictions: int) -> None:
    """What a prediction costs the app, alone and under load, for a small and a large picture."""
    scan = io.BytesIO()
    Image.open(SAMPLE).resize((1500, 2100)).save(scan, "JPEG", quality=90)
    with app() as (url, process):
        rest = memory(process)
        for name, data in (("small", SAMPLE.read_bytes()), ("large", scan.getvalue())):
            for clients in (1, 8):

                def ask(share: int, data: bytes = data) -> None:
                    with requests.Session() as session:
                        for _ in range(share):
                            session.post(url + "/api/predict", data=data, timeout=120).raise_for_status()

                def work(clients: int = clients, ask: Callable[[int], None] = ask) -> int:
                    with ThreadPoolExecutor(clients) as pool:
                        list(pool.map(ask, [predictions // clients] * clients))
                    return predictions // clients * clients

                work()
                found = cost(process, work)
                print(f"app, {name} picture, {len(data) / 1e3:.0f} kB, {clients} clients: {found * 1e3:.1f} ms of CPU")
        before, start = spent(process), time.monotonic()
        time.sleep(10)
        idle = (spent(process) - before) / (time.monotonic() - start)
        print(
            f"app, idle: {idle * 1e3:.1f} ms of CPU per second; {rest:.0f} MB at rest, {memory(process):.0f} MB after"
        )


def measure_mlflow(runs: int) -> None:
    """What a run of a training costs MLflow's server, and what a look for a new champion does."""
    with tempfile.TemporaryDirectory() as folder, mlflow_server(Path(folder)) as (url, process):
        print(f"MLflow, at rest: {memory(process):.0f} MB")
        mlflow.set_tracking_uri(url)
        client = mlflow.MlflowClient()
        experiment = client.create_experiment("growth")
        database = Path(folder) / "mlflow.db"

        def one_run() -> None:
            run = client.create_run(experiment).info.run_id
            for epoch in range(20):
                points = [mlflow.entities.Metric(f"m{i}", 0.5, 0, epoch) for i in range(50)]
                client.log_batch(run, metrics=points)
            client.set_terminated(run)

        size = database.stat().st_size
        found = cost(process, lambda: [one_run() for _ in range(runs)] and runs)
        grown = (database.stat().st_size - size) / runs
        print(f"MLflow, a run of 20 epochs, 50 metrics: {found:.2f} s of CPU, {grown / 1e3:.0f} kB in the database")

        run = client.create_run(experiment).info.run_id
        model = ROOT / "models" / "starter" / "model.onnx"
        found = cost(process, lambda: client.log_artifact(run, str(model)) or 1)
        print(f"MLflow, an artifact of {model.stat().st_size / 1e6:.1f} MB sent: {found:.2f} s of CPU")
        client.create_registered_model("manasight")
        source = client.get_run(run).info.artifact_uri
        client.create_model_version("manasight", source, run)
        client.set_registered_model_alias("manasight", "champion", "1")
        query = f"{url}/api/2.0/mlflow/registered-models/alias?name=manasight&alias=champion"

        def polls() -> int:
            with requests.Session() as session:
                for _ in range(100):
                    session.get(query, timeout=30).raise_for_status()
            return 100

        print(f"MLflow, a look for the champion: {cost(process, polls) * 1e3:.1f} ms of CPU")
        fetch = f"{url}/model-versions/get-artifact?name=manasight&version=1&path=model.onnx"
        found = cost(process, lambda: len(requests.get(fetch, timeout=120).content) and 1)
        print(f"MLflow, the champion fetched: {found:.2f} s of CPU; {memory(process):.0f} MB after all")


def main() -> None:
    """Measure app, then MLflow."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--predictions", type=int, default=200)
    parser.add_argument("--runs", type=int, default=10)
    options = parser.parse_args()
    print(f"{psutil.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    measure_app(options.predictions)
    measure_mlflow(options.runs)


if __name__ == "__main__":
    main()
