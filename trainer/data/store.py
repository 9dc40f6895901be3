"""An S3 store: lists, reads and writes objects one by one, and verifies them by MD5.

One request per file in threads, and not boto3's transfer manager: for 600 files of 20 to 120 kB that takes a third more
CPU time, even if it is given the sizes that it otherwise asks for, and it does not check the MD5.
"""

import hashlib
import os
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
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

from trainer.errors import UnavailableError, UserError
from trainer.files import readable

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


def open_store(address: str) -> Place:
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


def listing(place: Place, address: str) -> list[Remote]:
    """Every object below the prefix. A key that ends with a slash is a folder, not an object."""
    pages = place.client.get_paginator("list_objects_v2").paginate(Bucket=place.bucket, Prefix=place.prefix)
    try:
        with explained(address):
            return [
                Remote(entry["Key"].removeprefix(place.prefix), entry["Size"], entry["ETag"].strip('"'))
                for page in pages
                for entry in page.get("Contents", ())
                if not entry["Key"].endswith("/")
            ]
    except KeyError as error:
        raise UserError(f"'{address}' is listed without {error}; does AWS_ENDPOINT_URL speak S3?") from error


def download(place: Place, remote: Remote, path: Path) -> bool:
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
            size, same = part.stat().st_size, is_same(part, remote.etag)
            # With a key of one's own or of KMS the ETag is not an MD5.
            is_encrypted = "kms" in answer.get("ServerSideEncryption", "") or "SSECustomerAlgorithm" in answer
            if size == remote.size and (same is not False or is_encrypted):
                part.replace(path)
                return bool(same)
            problem = f"{size} of {remote.size} bytes" if size != remote.size else "another MD5 than listed"
    finally:
        part.unlink(missing_ok=True)
    raise UnavailableError(f"cannot copy '{place.prefix}{remote.name}': {problem}; run the same command again")


def upload(place: Place, name: str, path: Path) -> None:
    """Send a file with its MD5, which the store compares."""
    digest = b64encode(_md5(path).digest()).decode()
    with path.open("rb") as body:
        place.client.put_object(Bucket=place.bucket, Key=place.prefix + name, Body=body, ContentMD5=digest)


def read(place: Place, name: str) -> bytes:
    """An object's contents."""
    return place.client.get_object(Bucket=place.bucket, Key=place.prefix + name)["Body"].read()


def write(place: Place, name: str, data: bytes) -> None:
    """Store an object with these contents."""
    digest = b64encode(hashlib.md5(data).digest()).decode()  # noqa: S324 - S3's own checksum
    place.client.put_object(Bucket=place.bucket, Key=place.prefix + name, Body=data, ContentMD5=digest)


def is_same(path: Path, etag: str) -> bool | None:
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


@contextmanager
def explained(address: str) -> Iterator[None]:
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
