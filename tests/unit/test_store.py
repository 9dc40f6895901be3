"""`manasight data pull` and `push`, with a real S3 server on this machine."""

import json
import os
import random
import resource
import signal
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import boto3
import pytest
from s3_server import BUCKET, KEYS, s3_server
from trees import tree

from trainer.cli import main
from trainer.data.fingerprint import MANIFEST, fingerprints
from trainer.data.module import MultiLabelDataModule
from trainer.errors import UserError

pytestmark = pytest.mark.slow


@pytest.fixture(scope="session")
def keys(tmp_path_factory):
    """The environment of clients of the running server."""
    with s3_server(tmp_path_factory.mktemp("s3") / "server") as environment:
        yield environment


@pytest.fixture
def client(keys, monkeypatch):
    """boto3's, with this process set up for the server."""
    for name, value in keys.items():
        monkeypatch.setenv(name, value)
    return boto3.Session().client("s3")


@pytest.fixture
def address(request):
    """A prefix for this test alone."""
    return f"s3://{BUCKET}/{request.node.name.replace('[', '/').strip(']')}"


def make_files(folder: Path, count: int, largest: int = 20_000) -> Path:
    rnd = random.Random(count)
    for number in range(count):
        path = folder / "train" / f"label-{number % 7}" / f"bild ü+{number:04}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(rnd.randbytes(rnd.randint(0, largest)))
    return folder


def run(*args: object) -> int:
    return main(["data", *map(str, args)])


def sentence(capsys: pytest.CaptureFixture[str], *args: object, status: int = 2) -> str:
    assert run(*args) == status
    error = capsys.readouterr().err
    assert error.startswith("manasight: ")
    assert len(error.splitlines()) == 1
    return error


def key(address: str, name: str) -> str:
    return f"{address.removeprefix(f's3://{BUCKET}/')}/{name}"


def test_what_is_pushed_comes_back(client, address, tmp_path, capsys):
    source = make_files(tmp_path / "source", 30)
    (source / ".hidden").write_text("stays here")
    assert run("push", source, address) == 0
    assert "30 files copied, 0 were there" in capsys.readouterr().out
    (source / ".hidden").unlink()
    assert run("pull", address, tmp_path / "out") == 0
    assert tree(tmp_path / "out") == tree(source)
    assert run("pull", f"{address}/", tmp_path / "out") == 0
    assert run("push", source, address) == 0
    assert capsys.readouterr().out.count("0 files copied, 30 were there") == 2


def test_a_prefix_is_a_folder(client, address, tmp_path):
    source = make_files(tmp_path / "source", 3)
    assert run("push", source, address) == 0
    client.put_object(Bucket=BUCKET, Key=key(f"{address}2", "other.txt"), Body=b"x")
    client.put_object(Bucket=BUCKET, Key=key(address, "train/"), Body=b"")
    assert run("pull", address, tmp_path / "out") == 0
    assert tree(tmp_path / "out") == tree(source)


def test_changed_and_damaged_files_are_copied_again(client, address, tmp_path, capsys):
    source = make_files(tmp_path / "source", 10)
    assert run("push", source, address) == 0
    assert run("pull", address, tmp_path / "out") == 0
    first, second, *_ = sorted((tmp_path / "out").rglob("*.jpg"))
    data = first.read_bytes()
    first.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    second.write_bytes(b"short")
    assert run("pull", address, tmp_path / "out") == 0
    assert "2 files copied, 8 were there" in capsys.readouterr().out
    assert tree(tmp_path / "out") == tree(source)


def test_an_object_of_several_parts_is_checked_part_by_part(client, address, tmp_path, capsys):
    from boto3.s3.transfer import TransferConfig

    large = tmp_path / "large.bin"
    large.write_bytes(random.Random(0).randbytes(18 << 20))
    parts = TransferConfig(multipart_chunksize=8 << 20)
    client.upload_file(str(large), BUCKET, key(address, "large.bin"), Config=parts)
    assert "-3" in client.head_object(Bucket=BUCKET, Key=key(address, "large.bin"))["ETag"]
    assert run("pull", address, tmp_path / "out") == 0
    assert "by their size" not in capsys.readouterr().out
    assert run("pull", address, tmp_path / "out") == 0
    assert "0 files copied" in capsys.readouterr().out
    with (tmp_path / "out" / "large.bin").open("r+b") as file:
        file.seek(9 << 20)
        file.write(b"damage")
    assert run("pull", address, tmp_path / "out") == 0
    assert (tmp_path / "out" / "large.bin").read_bytes() == large.read_bytes()


def test_links_within_the_folder_are_followed(client, address, tmp_path):
    source = tmp_path / "source"
    (source / "cat").mkdir(parents=True)
    (source / "cat" / "1.jpg").write_bytes(b"one")
    (source / "dog").symlink_to("cat")
    (source / "cat" / "2.jpg").symlink_to("1.jpg")
    assert run("push", source, address) == 0
    assert run("pull", address, tmp_path / "out") == 0
    assert tree(tmp_path / "out").keys() == {"cat/1.jpg", "cat/2.jpg", "dog/1.jpg", "dog/2.jpg"}


@pytest.mark.parametrize(
    ("target", "says"),
    [
        ("../outside", "is a link that leaves"),
        ("../outside/1.jpg", "is a link that leaves"),
        ("nowhere", "is a broken link"),
        ("link", "is a broken link"),
        ("..", "is a link that leaves"),
        (".", "is a link to a folder that contains it"),
    ],
)
def test_other_links_are_refused_before_anything_is_copied(client, address, tmp_path, capsys, target, says):
    source = make_files(tmp_path / "source", 2)
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "1.jpg").write_bytes(b"secret")
    (source / "link").symlink_to(target)
    assert f"'{source}/link' {says}" in sentence(capsys, "push", source, address)
    assert "there is nothing at" in sentence(capsys, "pull", address, tmp_path / "out")


def test_links_that_go_round_in_a_circle_end(client, address, tmp_path, capsys):
    source = make_files(tmp_path / "source", 2)
    for name, target in (("a", "../b"), ("b", "../a")):
        (source / name).mkdir()
        (source / name / "other").symlink_to(target)
    assert "other' is a link to a folder that contains it" in sentence(capsys, "push", source, address)


@pytest.mark.skipif(sys.platform != "linux", reason="other file systems take no such name")
def test_names_that_are_not_utf8(client, address, tmp_path, capsys):
    source = make_files(tmp_path / "source", 2)
    assert run("push", source, address) == 0
    assert run("pull", address, tmp_path / "out") == 0
    for folder in (source, tmp_path / "out"):
        (folder / os.fsdecode(b"bild \xfc.jpg")).write_bytes(b"x")
    (source / "first.jpg").write_bytes(b"x")
    capsys.readouterr()
    assert "'bild \\xfc.jpg' in " in sentence(capsys, "push", source, address)
    assert run("pull", address, tmp_path / "out") == 0
    assert "0 files copied, 2 were there" in (printed := capsys.readouterr().out)
    assert "such as 'bild \\xfc.jpg'" in printed


def test_strangers_are_told_and_left_alone(client, address, tmp_path, capsys):
    source = make_files(tmp_path / "source", 3)
    assert run("push", source, address) == 0
    assert run("pull", address, tmp_path / "out") == 0
    (tmp_path / "out" / "mine.txt").write_text("mine")
    (next(source.rglob("*.jpg"))).unlink()
    assert run("pull", address, tmp_path / "out") == 0
    assert run("push", source, address) == 0
    printed = capsys.readouterr().out
    assert f"1 files in '{tmp_path / 'out'}' are not at {address}, such as 'mine.txt'" in printed
    assert f"1 objects at {address} are not in '{source}'" in printed
    assert (tmp_path / "out" / "mine.txt").exists()


@pytest.mark.parametrize(("size", "says"), [(0, "another MD5 than listed"), (1, "bytes; run the same command again")])
def test_what_is_damaged_on_the_way_is_not_stored(client, address, tmp_path, capsys, monkeypatch, size, says):
    from trainer.data import store

    for number in range(2):
        client.put_object(Bucket=BUCKET, Key=key(address, f"{number}.jpg"), Body=b"x")
    listing = store.listing

    def other(*args: object) -> list[store.Remote]:
        first, second = listing(*args)
        return [first, second._replace(size=second.size + size, etag="0" * 32)]

    monkeypatch.setattr(store, "listing", other)
    assert says in sentence(capsys, "pull", address, tmp_path / "out", status=1)
    assert len(tree(tmp_path / "out")) == 1


@pytest.mark.parametrize("name", ["../evil.jpg", "a/../../evil.jpg", "a//b.jpg"])
def test_keys_that_lead_elsewhere_are_refused(client, address, tmp_path, capsys, monkeypatch, name):
    from trainer.data import store

    monkeypatch.setattr(store, "listing", lambda *_: [store.Remote(name, 1, "")])
    assert "has a name that no file can have; rename it" in sentence(capsys, "pull", address, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["pull", f"s3://{BUCKET}/nothing-here", "out"], "there is nothing at"),
        (["pull", "s3://no-such-bucket/x", "out"], "NoSuchBucket"),
        (["pull", "http://x/y", "out"], "is not an address in S3; write it as s3://bucket/prefix"),
        (["pull", f"s3://{BUCKET}/\udcff", "out"], f"'s3://{BUCKET}/\\xff' is not UTF-8"),
        (["pull", "s3://[bad", "out"], "'s3://[bad' has an invalid bucket or key"),
        (["pull", "s3://Bad_Bucket!/x", "out"], "has an invalid bucket or key"),
        (["pull", "nonsense", "out", "--workers", "0"], "--workers 0 is too small; give 1 or more"),
        (["pull", f"s3://{BUCKET}/x", "out", "--fingerprint", "1234"], "--fingerprint '1234' is not a fingerprint"),
        (["pull", f"s3://{BUCKET}/x", "out", "--fingerprint", "X" * 32], "is not a fingerprint; give the 32 digits"),
        (["push", "gone", f"s3://{BUCKET}/x"], "there is no folder 'gone'"),
        (["push", "gone", f"s3://{BUCKET}/x", "--workers", "0"], "--workers 0 is too small; give 1 or more"),
    ],
)
def test_mistakes_are_a_sentence(client, tmp_path, capsys, monkeypatch, args, says):
    monkeypatch.chdir(tmp_path)
    assert says in sentence(capsys, *args)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("end", ["?x", "#frag", "/a?b#c/d"], ids=["query", "fragment", "both"])
def test_keys_may_hold_what_addresses_on_the_web_may_not(client, address, tmp_path, end):
    source = make_files(tmp_path / "source", 2)
    assert run("push", source, address + end) == 0
    assert {
        entry["Key"] for entry in client.list_objects_v2(Bucket=BUCKET, Prefix=key(address, "")[:-1])["Contents"]
    } == {key(address + end, name) for name in [*tree(source), MANIFEST]}
    assert run("pull", address + end, tmp_path / "out") == 0
    assert tree(tmp_path / "out") == tree(source)


@pytest.mark.parametrize(
    ("made", "says"),
    [
        ("out", "out' is not a folder, but files go into it"),
        ("out/a", "out/a' is not a folder, but files go into it"),
        ("out/a/1.jpg/mine", "out/a/1.jpg' is a folder, but a file goes there"),
    ],
)
def test_what_is_in_the_way_is_named_and_kept(client, address, tmp_path, capsys, made, says):
    client.put_object(Bucket=BUCKET, Key=key(address, "a/1.jpg"), Body=b"x")
    (tmp_path / made).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / made).write_bytes(b"mine")
    before = tree(tmp_path)
    assert says in sentence(capsys, "pull", address, tmp_path / "out")
    assert tree(tmp_path) == before


def test_an_object_that_another_lies_in_is_named(client, address, tmp_path, capsys, monkeypatch):
    from trainer.data import store  # the server of these tests takes no such keys; others do

    monkeypatch.setattr(store, "listing", lambda *_: [store.Remote(name, 1, "") for name in ("k1/a", "k1/a/b")])
    assert "'k1/a' would be a file and a folder at once" in sentence(capsys, "pull", address, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_full_disk_leaves_no_part_of_a_file(client, address, tmp_path, capsys):
    client.put_object(Bucket=BUCKET, Key=key(address, "1.jpg"), Body=bytes(100_000))
    usual = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, usual[1]))
    try:
        assert "File too large" in sentence(capsys, "pull", address, tmp_path / "out", status=1)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, usual)
    assert not tree(tmp_path)


@pytest.mark.parametrize("lacking", ["Size", "ETag"])
def test_a_listing_that_lacks_something_is_a_sentence(tmp_path, capsys, monkeypatch, lacking):
    fields = {"Key": "x/1.jpg", "Size": "1", "ETag": "e"}
    entry = "".join(f"<{name}>{value}</{name}>" for name, value in fields.items() if name != lacking)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(f"<ListBucketResult><Contents>{entry}</Contents></ListBucketResult>".encode())

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        for name, value in (KEYS | {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{server.server_port}"}).items():
            monkeypatch.setenv(name, value)
        error = sentence(capsys, "pull", "s3://data/x", tmp_path / "out")
        server.shutdown()
    assert f"'s3://data/x' is listed without '{lacking}'; does AWS_ENDPOINT_URL speak S3?" in error


def test_wrong_keys_and_a_missing_server_are_a_sentence(client, address, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    assert "cannot be used: SignatureDoesNotMatch" in sentence(capsys, "pull", address, tmp_path / "out")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    assert "cannot be reached: Could not connect" in sentence(capsys, "pull", address, tmp_path / "out", status=1)
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    assert "Unable to locate credentials" in sentence(capsys, "pull", address, tmp_path / "out")


def test_killed_and_resumed_2000_files_are_the_same_tree(keys, address, tmp_path):
    source = make_files(tmp_path / "source", 2000)
    environment = os.environ | keys

    def start(*args: object) -> subprocess.Popen:
        command = [sys.executable, "-m", "trainer.cli", "data", *map(str, args)]
        return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def kill_after(process: subprocess.Popen, enough, end: int) -> None:
        while not enough():
            assert process.poll() is None, process.communicate()
            time.sleep(0.01)
        process.send_signal(end)
        assert process.wait(30) != 0

    assert start("push", source, address).wait(300) == 0
    out = tmp_path / "out"
    for count, end in ((200, signal.SIGKILL), (400, signal.SIGTERM), (600, signal.SIGINT)):
        process = start("pull", address, out)
        kill_after(process, lambda count=count: len(list(out.rglob("bild*.jpg"))) >= count, end)
        kept = len(list(out.rglob("bild*.jpg")))
        assert kept < 2000
        wanted = tree(source)
        assert all(wanted[name] == digest for name, digest in tree(out).items() if not Path(name).name.startswith("."))
    last = start("pull", address, out)
    printed, error = last.communicate(timeout=300)
    assert last.returncode == 0, error
    copied = int(printed.split(" files copied")[0].splitlines()[-1])
    assert copied == 2000 - kept
    assert tree(out) == tree(source)


def test_two_pulls_into_one_folder_wait_for_each_other(client, address, keys, tmp_path):
    source = make_files(tmp_path / "source", 200)
    assert run("push", source, address) == 0
    out = tmp_path / "out"
    command = [sys.executable, "-m", "trainer.cli", "data", "pull", address, str(out)]
    runs = [subprocess.Popen(command, env=os.environ | keys) for _ in range(2)]

    assert [process.wait(120) for process in runs] == [0, 0]
    assert tree(out) == tree(source)


def test_a_name_of_the_greatest_length_is_pulled(client, address, tmp_path):
    source = tmp_path / "source" / "label"
    source.mkdir(parents=True)
    (source / f"{'n' * 251}.jpg").write_bytes(b"x")

    assert run("push", source.parent, address) == 0
    assert run("pull", address, tmp_path / "out") == 0
    assert tree(tmp_path / "out") == tree(source.parent)


@pytest.fixture
def cards(make_images):
    """A dataset of three splits."""
    for part in ("train", "val", "test"):
        root = make_images(f"cards/{part}", {"red-square": 3, "blue": 2})
    return root.parent


def recorded(root: Path, **options: Any) -> str:
    """What `fit` records of a dataset."""
    return fingerprints(MultiLabelDataModule(root, workers=0, **options).parts)["all"]


def test_every_image_of_every_split_counts(cards):
    before = fingerprints(MultiLabelDataModule(cards, workers=0).parts)
    for path in sorted(cards.rglob("*.png")):
        kept = path.read_bytes()
        path.write_bytes(kept + b"x")
        after = fingerprints(MultiLabelDataModule(cards, workers=0).parts)
        path.write_bytes(kept)
        changed = {name for name in before if before[name] != after[name]}
        assert changed == {path.relative_to(cards).parts[0], "all"}


def printed_fingerprint(capsys: pytest.CaptureFixture[str]) -> str:
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("fingerprint: ")]
    assert len(lines) == 1
    return lines[0].removeprefix("fingerprint: ")


def test_every_command_prints_the_fingerprint_that_fit_records(client, address, cards, tmp_path, capsys):
    expected = recorded(cards)
    for command in (
        ["describe", cards],
        ["describe", cards, "--check"],
        ["push", cards, address],
        ["pull", address, tmp_path / "out"],
        ["pull", address, tmp_path / "out", "--fingerprint", expected],
        ["pull", address, tmp_path / "short", "--fingerprint", expected[:12]],
    ):
        assert run(*command) == 0
        assert printed_fingerprint(capsys) == expected
    assert tree(tmp_path / "out") == tree(tmp_path / "short") == tree(cards)


@pytest.mark.parametrize("mode", ["copy", "table"])
def test_a_split_dataset_knows_its_fingerprint(client, address, make_images, tmp_path, capsys, mode):
    photos, out = make_images("photos", {"red_square": 6, "blue": 6}), tmp_path / "out"
    assert run("split", photos, out, "--mode", mode, "--separator", "_", "--near_duplicate_bits", -1) == 0
    written = {} if mode == "table" else {"separator": "_"}
    if written:
        with pytest.raises(UserError, match=r"out' was made with other options; give --data\.separator _"):
            recorded(out)
    options = [f"--separator={separator}" for separator in written.values()]
    found = printed_fingerprint(capsys)
    assert found == recorded(out, **written)
    assert json.loads((out / MANIFEST).read_text())["fingerprint"] == found
    assert run("describe", out, *options) == 0
    assert printed_fingerprint(capsys) == found
    (photos / "blue" / "000.png").write_bytes((photos / "blue" / "001.png").read_bytes())
    if mode == "table":
        assert run("push", out, address) == 0
        assert printed_fingerprint(capsys) == f"none: there are no labeled images in '{out}'"
        assert run("describe", out) == 0
    else:
        assert run("push", out, address, *options) == 0
        assert printed_fingerprint(capsys) == found
        assert run("pull", address, tmp_path / "again", "--fingerprint", found) == 0
        capsys.readouterr()
        next(out.glob("train/blue/*.png")).unlink()
        assert run("describe", out, *options) == 0
    assert printed_fingerprint(capsys) == f"{recorded(out, **written)} (it was {found} when it was made)"


def test_another_fingerprint_is_refused_before_anything_is_copied(client, address, cards, tmp_path, capsys):
    assert run("push", cards, address) == 0
    error = sentence(capsys, "pull", address, tmp_path / "out", "--fingerprint", "0" * 32)
    assert f"'{address}' has the fingerprint {recorded(cards)}, not {'0' * 32}; nothing was copied" in error
    assert not (tmp_path / "out").exists()


def test_an_object_that_changed_since_the_push_is_refused(client, address, cards, tmp_path, capsys):
    assert run("push", cards, address) == 0
    content = (cards / "train" / "blue" / "000.png").read_bytes()
    client.put_object(Bucket=BUCKET, Key=key(address, "train/blue/000.png"), Body=content[:-1] + b"?")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    error = sentence(capsys, "pull", address, tmp_path / "out")
    assert f", not {recorded(cards)}; the 15 files copied from there were removed; push the dataset again" in error
    assert tree(tmp_path / "out").keys() == {"mine.txt"}
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine.txt"]
    assert run("push", cards, address) == 0
    assert run("pull", address, tmp_path / "out") == 0


def test_objects_added_or_removed_since_the_push_are_refused(client, address, cards, tmp_path, capsys):
    assert run("push", cards, address) == 0
    client.put_object(Bucket=BUCKET, Key=key(address, "train/blue/new.png"), Body=b"x")
    error = sentence(capsys, "pull", address, tmp_path / "out")
    assert f"'{address}' has 16 files of " in error
    assert "but there were 15 of " in error
    for name in ("new", "000"):
        client.delete_object(Bucket=BUCKET, Key=key(address, f"train/blue/{name}.png"))
    assert f"'{address}' has 14 files of " in sentence(capsys, "pull", address, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_interrupted_push_is_not_a_dataset_until_it_is_finished(client, keys, address, tmp_path, capsys):
    source = make_files(tmp_path / "source", 1000)
    command = [sys.executable, "-m", "trainer.cli", "data", "push", str(source), address]
    process = subprocess.Popen(command, env=os.environ | keys)
    listed: list[Any] = []
    while len(listed) < 20:
        assert process.poll() is None
        listed = client.list_objects_v2(Bucket=BUCKET, Prefix=key(address, "")).get("Contents", [])
    process.kill()
    process.wait(30)
    assert f"a push to '{address}' has not finished" in sentence(capsys, "pull", address, tmp_path / "out", status=1)
    assert not (tmp_path / "out").exists()
    assert run("push", source, address) == 0
    assert run("pull", address, tmp_path / "out") == 0
    assert tree(tmp_path / "out") == tree(source)


def test_a_bucket_without_a_manifest_can_be_asked_for_a_fingerprint(client, address, cards, tmp_path, capsys):
    for name in tree(cards):
        client.upload_file(str(cards / name), BUCKET, key(address, name))
    assert run("pull", address, tmp_path / "out") == 0
    assert printed_fingerprint(capsys) == recorded(cards)
    assert run("pull", address, tmp_path / "right", "--fingerprint", recorded(cards)) == 0
    error = sentence(capsys, "pull", address, tmp_path / "wrong", "--fingerprint", "0" * 12)
    assert f"has the fingerprint {recorded(cards)}, not 000000000000; the 15 files copied" in error
    assert not (tmp_path / "wrong").exists()
    sentence(capsys, "pull", address, tmp_path / "out", "--fingerprint", "0" * 12)
    assert tree(tmp_path / "out") == tree(cards)


def test_other_objects_at_the_place_of_a_push_make_another_dataset(client, address, cards, tmp_path, capsys):
    assert run("push", cards, address) == 0
    (cards / "train" / "blue" / "000.png").unlink()
    capsys.readouterr()
    assert run("push", cards, address) == 0
    assert "with them it is another dataset" in capsys.readouterr().out
    assert run("pull", address, tmp_path / "out") == 0
    assert printed_fingerprint(capsys) != recorded(cards)


def test_a_folder_that_is_no_dataset_has_no_fingerprint(client, address, tmp_path, capsys):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "1.jpg").write_bytes(b"x")
    for command in (["push", tmp_path / "photos", address], ["pull", address, tmp_path / "out"]):
        assert run(*command) == 0
        assert printed_fingerprint(capsys).startswith("none: '")


def test_a_damaged_manifest_is_a_sentence(client, address, cards, tmp_path, capsys):
    assert run("push", cards, address) == 0
    for body in (b"{", b"[]", b"{}", b'{"form": {"x": 1}}'):
        client.put_object(Bucket=BUCKET, Key=key(address, MANIFEST), Body=body)
        error = sentence(capsys, "pull", address, tmp_path / "out")
        assert f"'{MANIFEST}' at '{address}' cannot be read" in error
