"""Who can reach what in the running stack, and what must be nowhere: the table in docs/security.md, measured."""

import hashlib
import json
import subprocess
from http.client import HTTPConnection

import pytest
import requests
from engine import PROJECT, ROOT, container, docker

SERVICES = ("app", "mlflow", "minio", "postgres")
# Run inside a container: which TCP ports anything in its network namespace listens on, but for the engine's own DNS.
LISTENING = """
for name in ("tcp", "tcp6"):
    for line in open(f"/proc/net/{name}").read().splitlines()[1:]:
        local, state = line.split()[1], line.split()[3]
        address, port = local.split(":")
        if state == "0A" and not address.endswith("0B00007F"):
            print(int(port, 16), "local" if address.endswith("0100007F") else "network")
"""
# Which of "host:port" answers a connection.
KNOCK = """
import socket, sys
from concurrent.futures import ThreadPoolExecutor

def knock(target):
    host, port = target.rsplit(":", 1)
    try:
        socket.create_connection((host, int(port)), 5).close()
        return target
    except OSError:
        return ""

with ThreadPoolExecutor(32) as pool:
    print("\\n".join(filter(None, pool.map(knock, sys.argv[1:]))))
"""


def addresses() -> dict[tuple[str, str], str]:
    """The address of every service in every network it is in: (service, network) → address."""
    found = {}
    for service in SERVICES:
        (inspected,) = json.loads(docker("inspect", container(service)))
        for network, settings in inspected["NetworkSettings"]["Networks"].items():
            found[service, network.removeprefix(f"{PROJECT}_")] = settings["IPAddress"]
    return found


@pytest.fixture(scope="module")
def listeners(stack) -> set[tuple[str, int]]:
    """Every port that a service's container listens on for others, (service, port)."""
    image = json.loads(docker("inspect", container("mlflow")))[0]["Config"]["Image"]
    found = set()
    for service in SERVICES:
        namespace = f"container:{container(service)}"
        lines = docker("run", "--rm", "--network", namespace, "--entrypoint", "python3", image, "-c", LISTENING)
        found |= {(service, int(line.split()[0])) for line in lines.splitlines() if line.endswith("network")}
    return found


@pytest.fixture(scope="module")
def table() -> set[tuple[str, str, int]]:
    """What docs/security.md says: (from, service, port)."""
    text = (ROOT / "docs/security.md").read_text()
    section = text.split("## Who reaches what")[1].split("\n##")[0]
    rows = [[cell.strip(" `") for cell in line.split("|")[1:-1]] for line in section.splitlines() if "|" in line][2:]
    return {(place.strip(), row[0], int(row[1])) for row in rows for place in row[2].split(",")}


def test_each_network_reaches_exactly_what_the_table_says(stack, listeners, table):
    image = json.loads(docker("inspect", container("mlflow")))[0]["Config"]["Image"]
    where = addresses()
    reached = set()
    for network in ("front", "data"):
        targets = [f"{address}:{port}" for (_, _), address in where.items() for _, port in listeners]
        options = ["--rm", "--network", f"{PROJECT}_{network}", "--entrypoint", "python3"]
        answered = docker("run", *options, image, "-c", KNOCK, *sorted(set(targets)), timeout=300).split()
        for (service, home), address in where.items():
            reached |= {(network, service, port) for _, port in listeners if f"{address}:{port}" in answered}
            assert home == network or not any(found.startswith(f"{address}:") for found in answered), (network, service)
    for service in SERVICES:
        (inspected,) = json.loads(docker("inspect", container(service)))
        for port, bindings in (inspected["HostConfig"]["PortBindings"] or {}).items():
            assert {binding["HostIp"] for binding in bindings} == {"127.0.0.1"}
            reached.add(("this machine", service, int(port.split("/")[0])))
    if "stand-in" in docker("inspect", "--format", "{{json .Config.Labels}}", container("minio")):
        # SeaweedFS's own ports, beside the one that Silo has too: the page says so, and that only `data` reaches them.
        own = {row for row in reached if row[1] == "minio" and row[2] != 9000}
        assert {row[0] for row in own} == {"data"}
        reached -= own
    assert reached == table


@pytest.mark.parametrize("service", ["app"])
def test_the_app_reaches_neither_database_nor_object_store(stack, listeners, service):
    where = addresses()
    targets = [f"{where[other, 'data']}:{port}" for other in ("postgres", "minio") for _, port in sorted(listeners)]
    targets += ["postgres:5432", "minio:9000"]
    assert docker("exec", container(service), "python3", "-c", KNOCK, *targets, timeout=300) == ""
    assert docker("exec", container(service), "python3", "-c", KNOCK, "mlflow:5000") == "mlflow:5000"


@pytest.mark.parametrize("service", ["postgres", "minio"])
def test_the_stores_have_no_way_out(stack, service):
    image = json.loads(docker("inspect", container("mlflow")))[0]["Config"]["Image"]
    namespace = f"container:{container(service)}"
    read = "print(open('/proc/net/route').read())"
    routes = docker("run", "--rm", "--network", namespace, "--entrypoint", "python3", image, "-c", read).splitlines()
    assert len(routes) > 1
    assert not [line for line in routes[1:] if line.split()[1] == "00000000"]  # a default route


def test_secrets_are_in_no_environment_command_line_log_layer_or_commit(stack):
    values = [path.read_text() for path in (ROOT / ".secrets" / PROJECT).iterdir()]
    assert len(values) == 5
    seen = {}
    for service in SERVICES:
        name = container(service)
        (inspected,) = json.loads(docker("inspect", name))
        seen[f"{service}'s settings"] = json.dumps(inspected)
        seen[f"{service}'s processes"] = docker("top", name, "-eo", "pid,args")
        done = subprocess.run(["docker", "logs", name], capture_output=True, text=True, check=True)
        seen[f"{service}'s log"] = done.stdout + done.stderr
        seen[f"{service}'s image"] = docker("history", "--no-trunc", inspected["Config"]["Image"])
    tracked = subprocess.run(["git", "-C", ROOT, "ls-files", ".secrets"], capture_output=True, text=True, check=True)
    assert tracked.stdout == ""
    for value in values:
        commits = ["git", "-C", ROOT, "log", "--all", "--format=%h", "-S", value]
        assert subprocess.run(commits, capture_output=True, text=True, check=True).stdout == ""
        for place, text in seen.items():
            assert value not in text, place


def test_uploads_leave_nothing_in_the_app(stack):
    name = container("app")
    before = docker("exec", name, "python3", "-c", "import os; print(sorted(os.walk('/tmp')))")
    address = f"http://127.0.0.1:{stack.ports['PORT']}/api/predict"
    for path in (ROOT / "app/samples").glob("*.jpg"):
        assert requests.post(address, path.read_bytes(), timeout=60).status_code == 200
    for bad in (b"#!/bin/sh\ntouch /tmp/run", b"\x7fELF" + bytes(100)):
        assert requests.post(address, bad, timeout=60).status_code == 422
    assert docker("exec", name, "python3", "-c", "import os; print(sorted(os.walk('/tmp')))") == before
    assert docker("diff", name) == ""


TRICKS = [
    "../../../../etc/passwd",
    "..%2f..%2f..%2f..%2fetc%2fpasswd",
    "%2e%2e/%2e%2e/%2e%2e/etc/passwd",
    "%2fetc%2fpasswd",
    "..%252f..%252f..%252fetc%252fpasswd",
    "..%5c..%5cetc%5cpasswd",
    "file:%2f%2f%2fetc%2fpasswd",
    "here%2f..%2f..%2fcanary",
]


def bucket() -> str:
    """The SHA-256 of all objects in the artifacts' bucket."""
    save = "from pathlib import Path; from manasight_mlflow import bucket; bucket.save(Path('/tmp/bucket.tar'))"
    read = "import sys; sys.stdout.buffer.write(open('/tmp/bucket.tar', 'rb').read())"
    command = ["docker", "exec", container("mlflow"), "python3", "-c", f"{save}; {read}"]
    return hashlib.sha256(subprocess.run(command, check=True, capture_output=True, timeout=120).stdout).hexdigest()


def test_the_artifact_proxy_refuses_ways_out_of_its_bucket(stack):
    address = f"http://127.0.0.1:{stack.ports['MLFLOW_PORT']}"

    def ask(method: str, path: str) -> tuple[int, bytes]:
        # As it stands: a browser's or a library's address would lose its dots before they are sent.
        connection = HTTPConnection("127.0.0.1", stack.ports["MLFLOW_PORT"], timeout=60)
        connection.request(method, path, b"x" if method == "PUT" else None)
        answer = connection.getresponse()
        return answer.status, answer.read()

    empty = bucket()
    proxy = "/2.0/mlflow-artifacts/artifacts"
    assert requests.put(f"{address}/api{proxy}/canary", b"alive", timeout=60).ok
    before, files = bucket(), set(docker("diff", container("mlflow")).splitlines())
    assert before != empty
    for trick in TRICKS:
        for root in ("/api", "/ajax-api"):
            for method in ("GET", "PUT", "DELETE"):
                status, body = ask(method, f"{root}{proxy}/{trick}")
                assert b"root:" not in body, (method, trick)
                assert method == "DELETE" or status >= 400, (method, trick)  # deleting what is not there is no error
    assert ask("GET", f"/api{proxy}/canary") == (200, b"alive")
    assert bucket() == before
    assert set(docker("diff", container("mlflow")).splitlines()) == files
