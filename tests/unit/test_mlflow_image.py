"""What the MLflow image's entry point does, run as the image runs it."""

import errno
import os
import shutil
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import requests
from manasight_mlflow import archive, bucket, database, server
from manasight_mlflow.settings import SettingError
from s3_server import KEYS, free_ports, s3_server

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "docker" / "mlflow"
STORE = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "MLFLOW_S3_ENDPOINT_URL": "http://127.0.0.1:9"}
# The entry point, with a shorter wait or another port.
PROGRAM = (
    "import sys; from manasight_mlflow import server, waiting; from manasight_mlflow.__main__ import main; "
    "{patch}; sys.exit(main(sys.argv[1:]))"
)


def start(*arguments: str, patch: str = "pass", **settings: str) -> subprocess.Popen:
    """The entry point as a process of its own; both streams are read as text."""
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM.format(patch=patch), *arguments],
        env=os.environ | {"PYTHONPATH": str(FOLDER)} | settings,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        (["bucket", "create"], 1, "bucket: create of 'mlflow' at http://127.0.0.1:9 failed: Could not connect"),
        (["bucket", "burn"], 2, "there is no command 'bucket burn'"),
        (["backup", "write", "-"], 2, "database.dump is missing"),
        (["server"], 2, "MANASIGHT_DATABASE must be an address"),
    ],
)
def test_a_mistake_is_one_sentence_and_a_status_that_says_whether_to_try_again(arguments, status, says):
    process = start(*arguments, patch="waiting.MAX_SECONDS = 0", **STORE)
    _, said = process.communicate(timeout=120)
    assert process.returncode == status
    assert says in said
    assert len(said.splitlines()) == 1


def test_a_password_that_mlflow_refuses_is_one_sentence(tmp_path):
    (tmp_path / "password").write_text("made-up")
    settings = {"MANASIGHT_AUTH": "basic", "MANASIGHT_AUTH_PASSWORD_FILE": str(tmp_path / "password")}
    process = start("server", **STORE, MANASIGHT_DATABASE=f"sqlite:///{tmp_path}/mlflow.db", **settings)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 2
    assert said.endswith("the password in MANASIGHT_AUTH_PASSWORD_FILE must have at least 12 characters\n")
    assert len(said.splitlines()) == 1


def test_bucket_waits_for_a_store_that_starts_late(tmp_path):
    (port,) = free_ports(1)
    keys = KEYS | {"MLFLOW_S3_ENDPOINT_URL": f"http://127.0.0.1:{port}", "MANASIGHT_BUCKET": "artifacts"}
    process = start("bucket", "create", **keys)
    assert process.stderr.readline().startswith(f"waiting for the object store at http://127.0.0.1:{port} (0 of ")
    with s3_server(tmp_path, port):
        said, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert said == "bucket artifacts exists\n"


def test_bucket_gives_up_in_time_and_shows_progress():
    patch = "waiting.MAX_SECONDS, waiting.SECONDS_BETWEEN_LINES = 3, 1"
    process = start("bucket", "create", patch=patch, **STORE)
    _, said = process.communicate(timeout=60)
    *progress, last = said.splitlines()
    assert process.returncode == 1
    assert len(progress) >= 2
    assert all("of at most 3 s): Could not connect" in line for line in progress)
    assert last.startswith("mlflow image: bucket: create of 'mlflow' at http://127.0.0.1:9 failed: Could not connect")


def test_a_refused_key_is_not_waited_for(tmp_path):
    with s3_server(tmp_path) as environment:
        endpoint = {"MLFLOW_S3_ENDPOINT_URL": environment["AWS_ENDPOINT_URL"]}
        process = start("bucket", "create", **(STORE | endpoint))
        _, said = process.communicate(timeout=60)
    assert process.returncode == 2
    assert "waiting" not in said
    assert "InvalidAccessKeyId" in said


@contextmanager
def postgres_that_refuses(port: int, messages: list[str]) -> Iterator[None]:
    """Answers every connection with the next of PostgreSQL's refusals; the last one stays."""

    def answer(listener: socket.socket) -> None:
        left = list(messages)
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                if struct.unpack("!II", connection.recv(8))[1] == 80877103:  # a question for TLS
                    connection.sendall(b"N")
                    connection.recv(8)
                connection.recv(4096)
                fields = f"SFATAL\0VFATAL\0C57P03\0M{left.pop(0) if len(left) > 1 else left[0]}\0\0".encode()
                connection.sendall(b"E" + struct.pack("!I", len(fields) + 4) + fields)

    with socket.create_server(("127.0.0.1", port)) as listener:
        threading.Thread(target=answer, args=(listener,), daemon=True).start()
        yield
        listener.shutdown(socket.SHUT_RDWR)


def test_migrate_waits_for_the_database_but_not_after_a_wrong_password():
    (port,) = free_ports(1)
    process = start("migrate", MANASIGHT_DATABASE=f"postgresql+psycopg2://mlflow:secret@127.0.0.1:{port}/mlflow")
    assert process.stderr.readline().startswith(f"waiting for the database at 127.0.0.1:{port} (0 of ")
    starting, refused = "the database system is starting up", "password authentication failed for user"
    with postgres_that_refuses(port, [starting, starting, refused]):
        _, said = process.communicate(timeout=60)
    assert process.returncode == 2
    assert said.splitlines()[-1].startswith(f"mlflow image: the database at 127.0.0.1:{port} cannot be used: ")
    assert refused in said
    assert "secret" not in said


def test_the_server_answers_on_both_address_families(tmp_path, new_database):
    (port,) = free_ports(1)
    shutil.copy(new_database, tmp_path / "server.db")
    settings = {"MANASIGHT_DATABASE": f"sqlite:///{tmp_path}/server.db", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    process = start("server", patch=f"server.PORT = {port}", **settings)
    try:
        for host in ("[::1]", "127.0.0.1", "localhost"):
            deadline = time.monotonic() + 120
            while True:
                try:
                    # A page that, unlike /health, is closed to hosts that are not allowed.
                    url = f"http://{host}:{port}/api/2.0/mlflow/experiments/search?max_results=1"
                    assert requests.get(url, timeout=5).status_code == 200
                    break
                except requests.ConnectionError:
                    assert process.poll() is None, process.stderr.read()
                    assert time.monotonic() < deadline
                    time.sleep(0.2)
    finally:
        process.terminate()
        process.communicate(timeout=30)


@pytest.mark.parametrize("workers", ["1", "2"])
def test_uvicorn_answers_on_both_address_families_with_any_number_of_workers(tmp_path, workers):
    (port,) = free_ports(1)
    (tmp_path / "small.py").write_text(
        "async def app(scope, receive, send):\n"
        "    await send({'type': 'http.response.start', 'status': 200, 'headers': []})\n"
        "    await send({'type': 'http.response.body', 'body': b'small'})\n"
    )
    options = ["--host", server.listen_address(workers), "--port", str(port), "--workers", workers, "--lifespan", "off"]
    process = subprocess.Popen([sys.executable, "-m", "uvicorn", *options, "small:app"], cwd=tmp_path)
    try:
        for host in ("[::1]", "127.0.0.1"):
            deadline = time.monotonic() + 30
            while True:
                try:
                    assert requests.get(f"http://{host}:{port}/", timeout=5).text == "small"
                    break
                except requests.ConnectionError:
                    assert time.monotonic() < deadline
                    time.sleep(0.1)
    finally:
        process.terminate()
        process.wait(30)


def test_a_host_without_ipv6_listens_on_ipv4(monkeypatch):
    class WithoutIpv6(socket.socket):
        def __init__(self, family=-1, *arguments):
            if family == socket.AF_INET6:
                raise OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol")
            super().__init__(family, *arguments)

    monkeypatch.setattr(socket, "socket", WithoutIpv6)
    assert [server.listen_address(workers) for workers in ("1", "2")] == ["0.0.0.0", "0.0.0.0"]


@pytest.fixture
def folders(tmp_path, monkeypatch):
    """/backups and /work of a pod whose database answers."""
    monkeypatch.setattr(database, "connect", lambda: socket.socket())
    for name in ("BACKUPS", "WORK"):
        monkeypatch.setattr(archive, name, tmp_path / name.lower())
        (tmp_path / name.lower()).mkdir()
    return archive.BACKUPS, archive.WORK


def test_a_backup_is_restored_as_a_whole_or_refused(folders, tmp_path, monkeypatch):
    backups, work = folders
    with s3_server(tmp_path / "store") as environment:
        for name, value in {**environment, "MLFLOW_S3_ENDPOINT_URL": environment["AWS_ENDPOINT_URL"]}.items():
            monkeypatch.setenv(name, value)
        bucket.create()
        client = bucket.connect()
        client.put_object(Bucket="mlflow", Key="1/model.onnx", Body=b"model")
        (work / "database.dump").write_bytes(b"rows")
        archive.write(str(backups))
        assert not list(work.iterdir())

        client.put_object(Bucket="mlflow", Key="2/later", Body=b"later")
        client.delete_object(Bucket="mlflow", Key="1/model.onnx")
        archive.unpack("newest")
        bucket.load(work / "bucket.tar")

        assert (work / "database.dump").read_bytes() == b"rows"
        assert bucket.keys(client, "mlflow") == ["1/model.onnx"]
        (path,) = backups.iterdir()
        path.write_bytes(path.read_bytes().replace(b"rows", b"cols"))
        with pytest.raises(SettingError, match="its checksums do not match; nothing was changed"):
            archive.unpack(path.name)
        with pytest.raises(SettingError, match="there is no backup"):
            archive.unpack("other.tar")


def test_a_backup_makes_room_first_and_keeps_the_newest(folders, monkeypatch):
    backups, work = folders
    monkeypatch.setattr(bucket, "wait", lambda: None)
    for days in (1, 8, 9):
        made = backups / f"manasight-{days}.tar"
        made.touch()
        os.utime(made, (0, time.time() - days * 86_400))
        (backups / f".manasight-{days}.tar").touch()
        (work / f"left-{days}").touch()

    archive.prepare("7")

    # By name 9 is the newest, whatever its age.
    assert sorted(path.name for path in backups.iterdir()) == ["manasight-1.tar", "manasight-9.tar"]
    assert not list(work.iterdir())
