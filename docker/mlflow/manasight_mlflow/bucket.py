"""The artifacts' bucket: create it, save all of it to a tar archive, or replace it by one."""

import os
import sys
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import boto3
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectionClosedError,
    ConnectTimeoutError,
    EndpointConnectionError,
    ReadTimeoutError,
)

from manasight_mlflow.settings import AwayError, SettingError, bucket_name, read_s3_secret
from manasight_mlflow.waiting import wait_for

UNREACHABLE = (ConnectionClosedError, ConnectTimeoutError, EndpointConnectionError, ReadTimeoutError)


def create() -> None:
    """Create the bucket unless it exists."""
    with store("create", creates=True) as (client, name):
        if name not in {bucket["Name"] for bucket in client.list_buckets()["Buckets"]}:
            client.create_bucket(Bucket=name)
        print(f"bucket {name} exists")


def wait() -> None:
    """Wait until the store answers for the bucket."""
    with store("list"):
        pass


def save(path: Path) -> None:
    """Write every object as one member of a tar archive; equal content gives an equal archive."""
    with store("save") as (client, name), tarfile.open(path, mode="w") as archive:
        for key in keys(client, name):
            found = client.get_object(Bucket=name, Key=key)
            member = tarfile.TarInfo(key)
            member.size = found["ContentLength"]
            archive.addfile(member, found["Body"])


def load(path: Path = Path("/work/bucket.tar")) -> None:
    """Upload every member of a tar archive, then delete what was not in it."""
    wanted = set()
    with store("load") as (client, name), tarfile.open(path) as archive:
        for member in archive:
            content = archive.extractfile(member)
            if content is not None:
                client.upload_fileobj(content, name, member.name)
                wanted.add(member.name)
        for key in keys(client, name):
            if key not in wanted:
                client.delete_object(Bucket=name, Key=key)
    print(f"{len(wanted)} objects", file=sys.stderr)


@contextmanager
def store(action: str, creates: bool = False) -> Iterator[tuple[object, str]]:
    """A client and the bucket's name, once the store answers.

    Args:
        action: for the message.
        creates: the bucket need not exist yet.

    Raises:
        SettingError: with a sentence, if the store refuses or cannot be reached in time.
    """
    read_s3_secret()
    name, address = bucket_name(), os.environ.get("MLFLOW_S3_ENDPOINT_URL") or "AWS"
    try:
        wait_for_store(name, address, creates)
        yield connect(), name
    except (BotoCoreError, ClientError, ValueError) as error:
        kind = AwayError if is_away(error) else SettingError
        raise kind(f"bucket: {action} of '{name}' at {address} failed: {error}") from None


def connect(**options: object):
    """A client of the store that the environment names."""
    endpoint = os.environ.get("MLFLOW_S3_ENDPOINT_URL")
    region = os.environ.get("AWS_DEFAULT_REGION", "us-east-1")
    return boto3.client("s3", endpoint_url=endpoint, region_name=region, config=Config(**options))


def wait_for_store(name: str, address: str, creates: bool) -> None:
    """Wait until the store answers; a refused key or a bucket that is missing is raised at once.

    Args:
        name: of the bucket.
        address: of the store, for messages.
        creates: the bucket need not exist yet.
    """
    # One short attempt at a time: boto3's own retries would take minutes for an address that swallows packets.
    client = connect(connect_timeout=5, read_timeout=10, retries={"total_max_attempts": 1})

    def attempt() -> None:
        if creates:
            client.list_buckets()
        else:
            client.list_objects_v2(Bucket=name, MaxKeys=1)

    wait_for(f"the object store at {address}", attempt, is_away)


def is_away(error: Exception) -> bool:
    """Whether the store may answer later: it cannot be reached yet, or says that it is not ready."""
    if isinstance(error, ClientError):
        return error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0) >= 500
    return isinstance(error, UNREACHABLE)


def keys(client, name: str) -> list[str]:
    """Every object's key, sorted."""
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=name)
    return sorted(item["Key"] for page in pages for item in page.get("Contents", []))
