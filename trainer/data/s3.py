"""Copies a dataset from and to S3 or a store with its API: how a trainer's pod gets its images.

Beside a dataset, `push` writes what it is: its fingerprint, which `pull` verifies.
"""

import fcntl
import os
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager, suppress
from hashlib import md5
from pathlib import Path, PurePosixPath
from typing import Any

from trainer.data import store
from trainer.data.fingerprint import DIGITS, MANIFEST, Manifest, folder_fingerprint
from trainer.data.labels import NO_LABEL, Format
from trainer.data.staging import check_room
from trainer.data.store import Place, Remote
from trainer.data.walk import walk
from trainer.errors import UnavailableError, UserError
from trainer.files import reachable, readable
from trainer.progress import progress

WORKERS = 16
LEAST_DIGITS = 12  # of a fingerprint: the app shows so many


def pull(source: str, out: Path, workers: int = WORKERS, fingerprint: str = "") -> None:
    """Copy a dataset from S3 into a folder, and verify that it is the one that was pushed.

    Files that are there already with the right size and MD5 are not copied: after an interruption, run it again.
    The endpoint and the keys come from AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or from wherever
    else the AWS tools look for them.

    Args:
        source: s3://bucket/prefix; every object below it is copied.
        out: the folder to fill.
        workers: files copied at the same time.
        fingerprint: refuse anything but the dataset with this fingerprint; its first 12 digits are enough.
    """
    _check_workers(workers)
    if fingerprint and not re.fullmatch(f"[0-9a-f]{{{LEAST_DIGITS},{DIGITS}}}", fingerprint):
        raise UserError(
            f"--fingerprint '{readable(fingerprint)}' is not a fingerprint; give the {DIGITS} digits that `manasight "
            f"data describe` prints, or the first {LEAST_DIGITS} or more"
        )
    place, remotes, pushed = _there(source)
    if pushed.unfinished:
        raise UnavailableError(
            f"a push to '{source}' has not finished; wait for it, or run the same `manasight data push` again"
        )
    if pushed.fingerprint and not pushed.fingerprint.startswith(fingerprint):
        raise UserError(
            f"'{source}' has the fingerprint {pushed.fingerprint}, not {fingerprint}; nothing was copied; name the "
            "place of the dataset that you want"
        )
    size = sum(remote.size for remote in remotes)
    if pushed.files is not None and (pushed.files, pushed.size) != (len(remotes), size):
        raise UserError(
            f"'{source}' has {len(remotes)} files of {size} bytes, but there were {pushed.files} of {pushed.size} "
            "bytes when it was pushed; nothing was copied; push the dataset again"
        )
    copied, unsure = _copy(place, remotes, source, out, workers)
    names = {remote.name for remote in remotes}
    found, why = folder_fingerprint(out, pushed.form, names)
    wanted = pushed.fingerprint or fingerprint
    if not (found or "").startswith(wanted):
        _remove(out, copied)
        what = f"the fingerprint {found}" if found else f"no fingerprint ({why})"
        raise UserError(
            f"what is at '{source}' has {what}, not {wanted}; the {len(copied)} files copied from there were removed; "
            f"{'push the dataset again' if pushed.fingerprint else 'name the place of the dataset that you want'}"
        )
    if strangers := _files(out).keys() - names:
        print(f"{len(strangers)} files in '{out}' are not at {source}, such as '{readable(min(strangers))}'")
    if unsure:
        print(f"{unsure} files could only be checked by their size: the store gives no MD5 of them")
    print(f"{len(copied)} files copied, {len(names) - len(copied)} were there")
    print(f"fingerprint: {found or f'none: {why}'}\nresults: {out}")


def copy(source: str, out: Path) -> None:
    """Copy every object below a prefix, whatever it is.

    Raises:
        UserError: if there is nothing, or not all of it can be copied.
    """
    place, remotes, _ = _there(source)
    _copy(place, remotes, source, out, WORKERS)


def push(
    folder: Path,
    target: str,
    workers: int = WORKERS,
    separator: str = "-",
    negatives: str = NO_LABEL,
    nested: bool = False,
    follow_links: bool = False,
) -> None:
    """Copy a folder to S3, without hidden files. Links within the folder are followed.

    Objects that are there already with the right size and MD5 are not copied: after an interruption, run it again.
    The endpoint and the keys come from AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or from wherever
    else the AWS tools look for them.

    Args:
        folder: the dataset.
        target: s3://bucket/prefix; the bucket must exist.
        workers: files copied at the same time.
        separator: between labels in a folder's name; labels are a part of the fingerprint.
        negatives: the folder of images without any label.
        nested: every folder between a split and an image adds labels.
        follow_links: also links that leave the folder.
    """
    _check_workers(workers)
    if not reachable(folder).is_dir():
        raise UserError(f"there is no folder '{folder}'")
    files = _files(folder, follow_links)
    for name in files:
        if name != readable(name):
            raise UserError(
                f"'{readable(name)}' in '{folder}' has a name that is not UTF-8, which S3 requires; rename it"
            )
    if not files:
        raise UserError(f"'{folder}' contains no files")
    sizes = {name: path.stat().st_size for name, path in files.items()}
    if large := next((files[name] for name, size in sizes.items() if size > store.LARGEST), None):
        raise UserError(f"'{large}' is larger than 5 GB, the most that S3 accepts in one request")
    place = store.open_store(target)
    remotes = {remote.name: remote for remote in store.listing(place, target)}
    form = Format(separator, negatives, nested, follow_links)
    found, why = folder_fingerprint(folder, form, files.keys())
    kept = remotes.pop(MANIFEST, None)
    strangers = remotes.keys() - files.keys()
    every = [*sizes.values(), *(remotes[name].size for name in strangers)]
    pushed = Manifest(None if strangers else found, form, len(every), sum(every)).written()
    is_new = kept is None or kept.etag != md5(pushed).hexdigest()  # noqa: S324 - S3 names objects by MD5

    def have(item: tuple[str, Path]) -> bool:
        name, path = item
        remote = remotes.get(name)
        if remote and remote.size == sizes[name] and store.is_same(path, remote.etag):
            return False
        store.upload(place, name, path)
        return True

    with store.explained(target):
        if is_new:
            store.write(place, MANIFEST, Manifest(None, form, unfinished=True).written())
        copied = sum(_in_parallel(have, list(files.items()), workers, "pushing"))
        if is_new:
            store.write(place, MANIFEST, pushed)
    if strangers:
        print(f"{len(strangers)} objects at {target} are not in '{folder}', such as '{min(strangers)}'")
        if found:
            print("with them it is another dataset: pull cannot verify the fingerprint; remove them, and push again")
    print(f"{copied} files copied, {len(files) - copied} were there")
    print(f"fingerprint: {found or f'none: {why}'}\nresults: {target}")


def _there(source: str) -> tuple[Place, list[Remote], Manifest]:
    """A place in S3, every object there, and what `push` wrote about them; an empty manifest if it wrote nothing.

    Raises:
        UserError: if there is nothing.
    """
    place = store.open_store(source)
    every = store.listing(place, source)
    remotes = [remote for remote in every if remote.name != MANIFEST]
    pushed = Manifest(None)
    if len(remotes) < len(every):
        with store.explained(source):
            text = store.read(place, MANIFEST)
        try:
            pushed = Manifest.read(text)
        except ValueError as error:
            raise UserError(f"'{MANIFEST}' at '{source}' cannot be read: {error}; push the dataset again") from error
    if not remotes and not pushed.unfinished:
        raise UserError(f"there is nothing at '{source}'; see what there is with `aws s3 ls`")
    return place, remotes, pushed


def _copy(place: Place, remotes: Sequence[Remote], source: str, out: Path, workers: int) -> tuple[list[str], int]:
    """The names of the objects that were copied now, and of how many the MD5 could not be checked."""
    for remote in remotes:
        _check_name(remote.name)
    check_room(out, [remote.name for remote in remotes])
    out.mkdir(parents=True, exist_ok=True)
    for folder in {(out / remote.name).parent for remote in remotes}:
        folder.mkdir(parents=True, exist_ok=True)

    def have(remote: Remote) -> tuple[str, bool]:
        path = out / remote.name
        if path.is_file() and path.stat().st_size == remote.size and store.is_same(path, remote.etag):
            return "", True
        return remote.name, store.download(place, remote, path)

    with _alone(out), store.explained(source):
        results = _in_parallel(have, remotes, workers, "pulling")
    return [name for name, _ in results if name], sum(not checked for _, checked in results)


def _remove(out: Path, names: Collection[str]) -> None:
    """Remove files, and folders that are empty then."""
    for name in names:
        (out / name).unlink(missing_ok=True)
    folders = {folder for name in names for folder in PurePosixPath(name).parents}
    for folder in sorted(folders, key=lambda one: len(one.parts), reverse=True):
        with suppress(OSError):  # something else is in it, or it is a volume
            (out / folder).rmdir()


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Two runs at once would remove each other's half-copied files: one waits, and then finds everything there."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


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


def _in_parallel(work: Callable[[Any], Any], items: Iterable[Any], workers: int, title: str) -> list[Any]:
    """What `work` says of every item; the first that fails ends it all."""
    pool = ThreadPoolExecutor(workers)
    try:
        futures = [pool.submit(work, item) for item in items]
        return [future.result() for future in progress(as_completed(futures), title, len(futures), unit="file")]
    finally:
        pool.shutdown(cancel_futures=True)
