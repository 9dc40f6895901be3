"""Make the artifacts' bucket, write all of it to a tar stream, or replace it by the content of /bucket.tar."""

import os
import sys
import tarfile

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
from waiting import wait_for

ACTIONS = ("create", "save", "load")
UNREACHABLE = (ConnectionClosedError, ConnectTimeoutError, EndpointConnectionError, ReadTimeoutError)


def run(action: str, name: str) -> None:
    """`create` the bucket, `save` it to standard output, or `load` it from /bucket.tar and delete all else in it.

    Raises:
        SystemExit: with a sentence, if there is no such action or the store does not do it.
    """
    if action not in ACTIONS:
        raise SystemExit(f"bucket: there is no action '{action}'; the actions are {', '.join(ACTIONS)}")
    try:
        wait_for_store(name, creates=action == "create")
        do(connect(), action, name)
    except (BotoCoreError, ClientError, ValueError) as error:
        raise SystemExit(f"bucket: {action} of '{name}' at {address()} failed: {error}") from None


def address() -> str:
    """The address of the store, for messages."""
    return os.environ.get("MLFLOW_S3_ENDPOINT_URL") or "AWS"


def connect(**options: object):
    """A client of the store that the environment names."""
    endpoint = os.environ.get("MLFLOW_S3_ENDPOINT_URL")
    region = os.environ.get("AWS_DEFAULT_REGION", "us-east-1")
    return boto3.client("s3", endpoint_url=endpoint, region_name=region, config=Config(**options))


def wait_for_store(name: str, creates: bool = False) -> None:
    """Wait until the store answers; a refused key or a bucket that is missing is raised at once.

    Args:
        name: of the bucket.
        creates: the bucket need not exist yet.
    """
    # One short attempt at a time: boto3's own retries would take minutes for an address that swallows packets.
    client = connect(connect_timeout=5, read_timeout=10, retries={"total_max_attempts": 1})

    def attempt() -> None:
        if creates:
            client.list_buckets()
        else:
            client.list_objects_v2(Bucket=name, MaxKeys=1)

    wait_for(f"the object store at {address()}", attempt, is_away)


def is_away(error: Exception) -> bool:
    """Whether the store may answer later: it cannot be reached yet, or says that it is not ready."""
    if isinstance(error, ClientError):
        return error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0) >= 500
    return isinstance(error, UNREACHABLE)


def do(client, action: str, name: str) -> None:
    """What `run` says, with a client."""
    if action == "create":
        if name not in {bucket["Name"] for bucket in client.list_buckets()["Buckets"]}:
            client.create_bucket(Bucket=name)
        print(f"bucket {name} is there")
    elif action == "save":
        save(client, name)
    else:
        load(client, name)


def keys(client, name: str) -> list[str]:
    """Every object's key, sorted."""
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=name)
    return sorted(item["Key"] for page in pages for item in page.get("Contents", []))


def save(client, name: str) -> None:
    """Stream every object as one member of a tar archive; equal content gives an equal archive."""
    with tarfile.open(fileobj=sys.stdout.buffer, mode="w|") as archive:
        for key in keys(client, name):
            found = client.get_object(Bucket=name, Key=key)
            member = tarfile.TarInfo(key)
            member.size = found["ContentLength"]
            archive.addfile(member, found["Body"])


def load(client, name: str) -> None:
    """Put every member of a tar archive, then delete what was not in it."""
    wanted = set()
    with tarfile.open("/bucket.tar") as archive:
        for member in archive:
            content = archive.extractfile(member)
            if content is not None:
                client.upload_fileobj(content, name, member.name)
                wanted.add(member.name)
    for key in keys(client, name):
        if key not in wanted:
            client.delete_object(Bucket=name, Key=key)
    print(f"{len(wanted)} objects", file=sys.stderr)
