"""Labeled images that have been checked: the classes agree, and no image is unreadable. Needs no PyTorch."""

import shlex
from collections.abc import Sequence
from pathlib import Path

from trainer.data.images import unreadable_images
from trainer.data.samples import Format, Samples, find_splits, listed, read_samples, relative
from trainer.errors import UserError


class LabeledImages:
    """The images of one split, or of a dataset without splits.

    Attributes:
        root: where they are.
        classes: the label names, sorted.
        images: per image its path and labels.
        notes: what the user should know about the files, as lines.
        dropped: the images that `drop_unreadable` left out, each with its path and the reason.
    """

    def __init__(
        self,
        root: str | Path,
        form: Format = Format(),  # noqa: B008 (immutable)
        classes: Sequence[str] | None = None,
        drop_unreadable: bool = False,
    ) -> None:
        """Scan `root`.

        Args:
            root: the labeled images.
            form: how labels are written.
            classes: the classes of the training split; this one must have the same.
            drop_unreadable: leave out images that cannot be decoded (every one is decoded once) instead of refusing.

        Raises:
            UserError: for anything that would make the labels or the images other than the user expects.
        """
        self.root = folder = Path(root)
        samples = read_samples(folder, form)
        _check_empty(samples)
        self.notes = samples.notes()
        found = samples.labels
        if classes is None and len(found) < 2:
            instead = f", or call '{form.negatives}' something that is a label" if found else ""
            which = f"one label, '{found[0]}'" if found else "no label"
            raise UserError(f"'{folder}' has {which}; a model needs at least two: add another{instead}")
        self.classes = list(classes) if classes is not None else found
        _check_same_classes(found, self.classes, folder)

        # Decoding everything takes time: without `drop_unreadable` only size and header are checked here.
        bad = dict(samples.lacking)
        there = [sample.path for sample in samples.images if sample.path not in bad]
        bad |= unreadable_images(there, decode=drop_unreadable)
        if samples.lacking and not drop_unreadable:
            reasons = "; ".join(f"{reason}: '{relative(path, folder)}'" for path, reason in samples.lacking[:3])
            raise UserError(
                f"{len(samples.lacking)} images of '{folder}' are missing; {reasons}; add them, remove the rows, or "
                "leave them out with --drop_unreadable (fit: --data.drop_unreadable true)"
            )
        if bad and not drop_unreadable:
            raise UserError(
                f"{len(bad)} unreadable images in '{folder}': {listed(relative(path, folder) for path in bad)}; list "
                f"all with `manasight data describe {shlex.quote(str(folder))} --check`, and repair or remove them, or "
                "leave them out with --drop_unreadable (fit: --data.drop_unreadable true)"
            )
        self.dropped = sorted(bad.items())
        self.images = [sample for sample in samples.images if sample.path not in bad]
        if not self.images:
            raise UserError(f"every image in '{folder}' is unreadable; check that they are images")

    def __len__(self) -> int:
        return len(self.images)


def _check_empty(samples: Samples) -> None:
    """Refuse label folders without an image, and guess what was meant."""
    empty = samples.empty
    if not empty:
        return
    hint = "fill or remove them"
    if find_splits(samples.root):
        hint = "those are splits, not labels; name one of them"
    elif deeper := next((path for path in (empty[0], *empty[0].iterdir()) if find_splits(path)), None):
        hint = f"did you mean '{deeper}', which has splits?"
    raise UserError(f"no images in {listed(path.name for path in empty)} of '{samples.root}'; {hint}")


def _check_same_classes(found: Sequence[str], expected: Sequence[str], folder: Path) -> None:
    lacking = sorted(set(expected) - set(found))
    if lacking:
        raise UserError(
            f"'{folder}' lacks {listed(lacking)}, which training has; every split needs every class: add images of it, "
            "or remove it from the others"
        )
    unknown = sorted(set(found) - set(expected))
    if unknown:
        raise UserError(
            f"'{folder}' has {listed(unknown)}, which training lacks; every split needs the same classes: add training "
            "images of it, or remove it here"
        )
