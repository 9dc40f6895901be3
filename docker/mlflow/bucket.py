"""Make the artifacts' bucket, write all of it to a tar stream, or replace it by one."""

import io
import os
import sys
import tarfile

import boto3


def run(action: str, name: str) -> None:
    """`create` the bucket, `save` it to standard output, or `load` it from standard input and delete all else in it."""
    client = boto3.client("s3", endpoint_url=os.environ["MLFLOW_S3_ENDPOINT_URL"], region_name="us-east-1")
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


class Forward(io.RawIOBase):
    """A streamed archive's member as boto3 wants it: it asks whether it may seek, which such a member cannot say."""

    def __init__(self, content) -> None:
        super().__init__()
        self.content = content

    def readable(self) -> bool:
        """It is made to be read."""
        return True

    def readinto(self, buffer) -> int:
        """Read the next bytes into `buffer`."""
        data = self.content.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)


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
    with tarfile.open(fileobj=sys.stdin.buffer, mode="r|") as archive:
        for member in archive:
            content = archive.extractfile(member)
            if content is not None:
                client.upload_fileobj(Forward(content), name, member.name)
                wanted.add(member.name)
    for key in keys(client, name):
        if key not in wanted:
            client.delete_object(Bucket=name, Key=key)
    print(f"{len(wanted)} objects", file=sys.stderr)
