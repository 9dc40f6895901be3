"""Make the artifacts' bucket, write all of it to a tar stream, or replace it by the content of /bucket.tar."""

import os
import sys
import tarfile

import boto3
from botocore.exceptions import BotoCoreError, ClientError


def run(action: str, name: str) -> None:
    """`create` the bucket, `save` it to standard output, or `load` it from /bucket.tar and delete all else in it.

    Raises:
        SystemExit: with a sentence, if there is no such action or the store does not do it.
    """
    address = os.environ.get("MLFLOW_S3_ENDPOINT_URL")
    try:
        client = boto3.client("s3", endpoint_url=address, region_name=os.environ.get("AWS_DEFAULT_REGION", "us-east-1"))
        do(client, action, name)
    except (BotoCoreError, ClientError, ValueError) as error:
        raise SystemExit(f"bucket: {action} of '{name}' at {address or 'AWS'} failed: {error}") from None


def do(client, action: str, name: str) -> None:
    """What `run` says, with a client."""
    if action == "create":
        if name not in {bucket["Name"] for bucket in client.list_buckets()["Buckets"]}:
            client.create_bucket(Bucket=name)
        print(f"bucket {name} is there")
    elif action == "save":
        save(client, name)
    elif action == "load":
        load(client, name)
    else:
        raise SystemExit(f"bucket: there is no action '{action}'; the actions are create, save and load")


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
