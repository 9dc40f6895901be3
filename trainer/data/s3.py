"""Copies a dataset from and to S3 or a store with its API: how a trainer's pod gets its images.

One request per file in threads, and not boto3's transfer manager: for 600 files of 20 to 120 kB that takes a third more
CPU time, even if it is given the sizes that it otherwise asks for, and it does not check the MD5.
"""

import fcntl
import hashlib
import os
from base64 import b64encode
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import boto3
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    HTTPClientError,
    IncompleteReadError,
    NoCredentialsError,
    ParamValidationError,
    PartialCredentialsError,
    ProxyConnectionError,
    SSLError,
)

from trainer.data.staging import check_room
from trainer.data.walk import walk
from trainer.errors import UnavailableError, UserError
from trainer.files import readable
from trainer.progress import progress

WORKERS = 16
TRIES = 3  # at a body that breaks off or is damaged; botocore itself tries requests that fail again
LARGEST = 5 << 30  # bytes that S3 takes in one request
CHUNK = 1 << 20
# Parts of S3 objects that were uploaded in several, in MiB: aws, SDKs and consoles use these.
PART_SIZES = (8, 5, 16, 10, 15, 17, 25, 32, 50, 64, 100, 128)


class Remote(NamedTuple):
    """An object: its key below the prefix, its bytes and its ETag without quotes."""

    name: str
    size: int
    etag: str


class Place(NamedTuple):
    """A client, a bucket and a prefix that is empty or ends with a slash."""

    client: Any
    bucket: str
    prefix: str


def pull(source: str, out: Path, workers: int = WORKERS) -> None:
    """Copy a dataset from S3 into a folder.

    Files that are there already with the right size and MD5 are not copied: after an interruption, run it again.
    The endpoint and the keys come from AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or from wherever
    else the AWS tools look for them.

    Args:
        source: s3://bucket/prefix; every object below it is copied.
        out: the folder to fill.
        workers: files copied at the same time.
    """
    names, copied, unsure = copy(source, out, workers)
    strangers = _files(out).keys() - names
    if strangers:
        print(f"{len(strangers)} files in '{out}' are not at {source}, such as '{readable(min(strangers))}'")
    if unsure:
        print(f"{unsure} files could only be checked by their size: the store gives no MD5 of them")
    print(f"{copied} files copied, {len(names) - copied} were there\nresults: {out}")


def copy(source: str, out: Path, workers: int = WORKERS) -> tuple[set[str], int, int]:
    """`pull` without output.

    Returns:
        the names of all objects below the prefix, how many of them were copied now, and of how many the MD5 could not
        be checked.

    Raises:
        UserError: if there is nothing, or not all of it can be copied.
    """
    _check_workers(workers)
    place = _open(source)
    remotes = _listing(place, source)
    if not remotes:
        raise UserError(f"there is nothing at '{source}'; see what there is with `aws s3 ls`")
    for remote in remotes:
        _check_name(remote.name)
    check_room(out, [remote.name for remote in remotes])
    out.mkdir(parents=True, exist_ok=True)
    for folder in {(out / remote.name).parent for remote in remotes}:
        folder.mkdir(parents=True, exist_ok=True)

    def have(remote: Remote) -> tuple[bool, bool]:
        path = out / remote.name
        if path.is_file() and path.stat().st_size == remote.size and _is_same(path, remote.etag):
            return False, True
        return True, _download(place, remote, path)

    with _alone(out):
        results = _in_parallel(have, remotes, workers, "pulling", source)
    copied, checked = map(sum, zip(*results, strict=True))
    return {remote.name for remote in remotes}, copied, len(remotes) - checked


def push(folder: Path, target: str, workers: int = WORKERS, follow_links: bool = False) -> None:
    """Copy a folder to S3, without hidden files. Links within the folder are followed.

    Objects that are there already with the right size and MD5 are not copied: after an interruption, run it again.
    The endpoint and the keys come from AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or from wherever
    else the AWS tools look for them.

    Args:
        folder: the dataset.
        target: s3://bucket/prefix; the bucket must exist.
        workers: files copied at the same time.
        follow_links: also links that leave the folder.
    """
    _check_workers(workers)
    if not folder.is_dir():
        raise UserError(f"there is no folder '{folder}'")
    files = _files(folder, follow_links)
    for name in files:
        if name != readable(name):
            raise UserError(
                f"'{readable(name)}' in '{folder}' has a name that is not UTF-8, which S3 requires; rename it"
            )
    if not files:
        raise UserError(f"'{folder}' contains no files")
    place = _open(target)
    remotes = {remote.name: remote for remote in _listing(place, target)}

    def have(item: tuple[str, Path]) -> tuple[bool, bool]:
        name, path = item
        size, remote = path.stat().st_size, remotes.get(name)
        if size > LARGEST:
            raise UserError(f"'{path}' is larger than 5 GB, the most that S3 accepts in one request")
        if remote and remote.size == size and _is_same(path, remote.etag):
            return False, True
        _upload(place, name, path)
        return True, True

    results = _in_parallel(have, list(files.items()), workers, "pushing", target)
    copied = sum(new for new, _ in results)
    strangers = remotes.keys() - files.keys()
    if strangers:
        print(f"{len(strangers)} objects at {target} are not in '{folder}', such as '{min(strangers)}'")
    print(f"{copied} files copied, {len(files) - copied} were there\nresults: {target}")


def _open(address: str) -> Place:
    # Not as an address on the web is read: keys may hold ? and #.
    bucket, _, prefix = address.removeprefix("s3://").partition("/")
    if not address.startswith("s3://") or not bucket or address != readable(address):
        raise UserError(f"'{readable(address)}' is not an address in S3; write it as s3://bucket/prefix")
    # The checksums that newer clients add are refused by some stores; MD5, checked here, is known to all.
    config = Config(
        max_pool_connections=64,
        retries={"mode": "standard", "max_attempts": 5},
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
    )
    prefix = prefix.strip("/")
    try:
        client = boto3.Session().client("s3", config=config)
    except (BotoCoreError, ValueError) as error:
        raise UserError(f"S3 is not set up: {error}; see AWS_ENDPOINT_URL and AWS_ACCESS_KEY_ID") from error
    return Place(client, bucket, f"{prefix}/" if prefix else "")


def _listing(place: Place, address: str) -> list[Remote]:
    """Every object below the prefix. A key that ends with a slash is a folder, not an object."""
    pages = place.client.get_paginator("list_objects_v2").paginate(Bucket=place.bucket, Prefix=place.prefix)
    try:
        with _explained(address):
            return [
                Remote(entry["Key"].removeprefix(place.prefix), entry["Size"], entry["ETag"].strip('"'))
                for page in pages
                for entry in page.get("Contents", ())
                if not entry["Key"].endswith("/")
            ]
    except KeyError as error:
        raise UserError(f"'{address}' is listed without {error}; does AWS_ENDPOINT_URL speak S3?") from error


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Two runs at once would remove each other's half-copied files: one waits, and then finds everything there."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _download(place: Place, remote: Remote, path: Path) -> bool:
    """Store an object as a whole or not at all; whether its MD5 could be checked."""
    # Not the name with something added: it may have 255 bytes already.
    part = path.with_name(f".{hashlib.md5(os.fsencode(path.name)).hexdigest()}.part")  # noqa: S324 - S3 names parts by MD5
    problem: Exception | str = ""
    try:
        for _ in range(TRIES):
            try:
                answer = place.client.get_object(Bucket=place.bucket, Key=place.prefix + remote.name)
                with part.open("wb") as file:
                    for chunk in answer["Body"].iter_chunks(CHUNK):
                        file.write(chunk)
            except (HTTPClientError, IncompleteReadError) as error:
                problem = error
                continue
            size, same = part.stat().st_size, _is_same(part, remote.etag)
            # With a key of one's own or of KMS the ETag is not an MD5.
            is_encrypted = "kms" in answer.get("ServerSideEncryption", "") or "SSECustomerAlgorithm" in answer
            if size == remote.size and (same is not False or is_encrypted):
                part.replace(path)
                return bool(same)
            problem = f"{size} of {remote.size} bytes" if size != remote.size else "another MD5 than listed"
    finally:
        part.unlink(missing_ok=True)
    raise UnavailableError(f"cannot copy '{place.prefix}{remote.name}': {problem}; run the same command again")


def _upload(place: Place, name: str, path: Path) -> None:
    """Send a file with its MD5, which the store compares."""
    digest = b64encode(_md5(path).digest()).decode()
    with path.open("rb") as body:
        place.client.put_object(Bucket=place.bucket, Key=place.prefix + name, Body=body, ContentMD5=digest)


def _is_same(path: Path, etag: str) -> bool | None:
    """Whether a file is what an ETag says; None if that is unknown."""
    digest, _, parts = etag.partition("-")
    if len(digest) != 32:
        return None
    if not parts:
        return _md5(path).hexdigest() == digest
    size = path.stat().st_size
    for step in (mebibytes << 20 for mebibytes in PART_SIZES):
        if parts == str(-(-size // step)) and hashlib.md5(b"".join(_part_digests(path, step))).hexdigest() == digest:  # noqa: S324 - S3 names parts by MD5
            return True
    return None


def _part_digests(path: Path, step: int) -> Iterator[bytes]:
    with path.open("rb") as file:
        while part := file.read(step):
            yield hashlib.md5(part).digest()  # noqa: S324 - S3 names parts by MD5


def _md5(path: Path) -> Any:
    """S3's own checksum: it finds damage; nobody here relies on it against forgery."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "md5")


def _files(folder: Path, follow_links: bool = False) -> dict[str, Path]:
    """Name below the folder → path, for every file but what systems leave there.

    Raises:
        UserError: for a folder that cannot be entered, and a link that is broken or cannot be followed.
    """
    found = {path.relative_to(folder).as_posix(): path for path in walk(folder, follow_links=follow_links)}
    for path in found.values():
        if not path.exists():
            raise UserError(f"'{readable(path)}' is a broken link; remove it")
    return found


def _check_name(name: str) -> None:
    """A bucket may be filled by others: its keys must not lead out of the folder."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or path.as_posix() != name or "\\" in name:
        raise UserError(f"the object '{name}' has a name that no file can have; rename it")


def _check_workers(workers: int) -> None:
    if workers < 1:
        raise UserError(f"--workers {workers} is too small; give 1 or more")


def _in_parallel(
    work: Callable[[Any], tuple[bool, bool]], items: Iterable[Any], workers: int, title: str, address: str
) -> list[tuple[bool, bool]]:
    """What `work` says of every item; the first that fails ends it all."""
    pool = ThreadPoolExecutor(workers)
    try:
        with _explained(address):
            futures = [pool.submit(work, item) for item in items]
            return [future.result() for future in progress(as_completed(futures), title, len(futures), unit="file")]
    finally:
        pool.shutdown(cancel_futures=True)


@contextmanager
def _explained(address: str) -> Iterator[None]:
    """Turn an error of the store or the client into a sentence."""
    try:
        yield
    except ParamValidationError as error:
        raise UserError(f"'{address}' has an invalid bucket or key; use s3://bucket/prefix") from error
    except ClientError as error:
        found = error.response.get("Error", {})
        code, message = found.get("Code", "an error"), found.get("Message", "")
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        kind = UnavailableError if status >= 500 or status in (408, 429) else UserError
        raise kind(
            f"'{address}' cannot be used: {code} {message}; check the bucket, AWS_ENDPOINT_URL and the keys"
        ) from error
    except SSLError as error:
        remedy = "set AWS_CA_BUNDLE to the file of your certificate authority"
        raise UserError(f"'{address}' cannot be reached: {error}; {remedy}") from error
    except ProxyConnectionError as error:
        remedy = "check HTTP_PROXY and HTTPS_PROXY, or add the store's host to NO_PROXY"
        raise UnavailableError(f"'{address}' cannot be reached: {error}; {remedy}") from error
    except BotoCoreError as error:
        kind = UserError if isinstance(error, NoCredentialsError | PartialCredentialsError) else UnavailableError
        raise kind(f"'{address}' cannot be reached: {error}; check AWS_ENDPOINT_URL and the keys") from error
