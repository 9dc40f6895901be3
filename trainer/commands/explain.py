"""`manasight explain`: where a trained model looks, by three of Captum's methods beside the maps that it exports."""

import io
from pathlib import Path

import mlflow
import numpy as np
import torch
from captum.attr import IntegratedGradients, LayerGradCam, Occlusion

from contract.images import resize
from trainer.data.images import UNREADABLE, load_rgb
from trainer.data.samples import find_images
from trainer.errors import UserError
from trainer.files import reachable, write_whole
from trainer.model.network import MultiLabelNetwork
from trainer.model.onnx_file import OnnxClassifier
from trainer.progress import progress
from trainer.report import figures as pictures
from trainer.report.evaluation import spread
from trainer.tracking.mlflow import connect
from trainer.tracking.runs import TrainedRun, load_run

# Points on the way from gray to the image: twice as many change a map by less than its picture shows.
STEPS = 32


def explain(
    images: str | None = None,
    labels: list[str] | None = None,
    run: str = "latest",
    count: int = 6,
    out: Path | None = None,
) -> None:
    """Show where a run's model looks for labels in images: a grid of images, logged to its MLflow run.

    Four maps stand beside each image: the class activation map that model.onnx gives, LayerGradCam of the last
    convolutions (the same up to a factor, if all is well: the correlation is printed and logged), integrated gradients
    and occlusion.

    Args:
        images: an image, a folder, a pattern; by default the run's test split.
        labels: the labels to explain; by default those that the model sees in each image.
        run: the run's id, the beginning of one, or latest.
        count: images taken evenly from those that are there.
        out: the PNG file to write; by default explanations.png in the run's folder.
    """
    if count < 1:
        raise UserError(f"--count {count} shows nothing; give 1 or more")
    trained = load_run(run)
    path = trained.folder / "model.onnx"
    if not path.is_file():
        raise UserError(f"run {trained.run_id} has no model.onnx yet; make it with `manasight export --run {run}`")
    exported = OnnxClassifier(path)
    classes = exported.metadata.classes
    for label in labels or ():
        if label not in classes:
            raise UserError(f"the model knows no label '{label}'; it knows {', '.join(classes)}")
    files = find_images(images)[0] if images else [sample.path for sample in trained.data.dataset("test").images]
    if out is not None and out.suffix.lower() != ".png":
        raise UserError(f"'{out}' is not a .png file; give --out such a name")
    if out is not None and not reachable(out.parent).is_dir():
        raise UserError(f"there is no folder '{out.parent}' to write '{out.name}' into; make it, or name another --out")
    client = connect()
    shown, pixels = [], []
    for place in spread(len(files), count):
        try:
            pixels.append(
                np.asarray(resize(load_rgb(files[place]), exported.metadata.input_size, exported.metadata.letterbox))
            )
            shown.append(files[place])
        except UNREADABLE as error:
            print(f"left out {files[place]}: {error}")
    if not shown:
        raise UserError(f"no image of '{images}' can be read")
    probabilities = exported(np.stack(pixels))
    rows = [
        (k, index)
        for k in range(len(shown))
        for index in (map(classes.index, labels) if labels else seen(probabilities[k], exported.metadata.thresholds))
    ]
    maps = attributions(trained, exported, np.stack([pixels[k] for k, _ in rows]), [index for _, index in rows])
    agreement = correlation(maps["activation map"], maps["LayerGradCam"])
    titles = [f"{'/'.join(shown[k].parts[-2:])}\n{classes[index]} {probabilities[k, index]:.2f}" for k, index in rows]
    target, buffer = out or trained.folder / "explanations.png", io.BytesIO()
    pictures.save_attributions([pixels[k] for k, _ in rows], maps, titles, buffer)
    write_whole(target, buffer.getvalue())
    client.log_artifact(trained.run_id, str(target), "explanations")
    mlflow.log_metric("explanation_agreement", agreement, run_id=trained.run_id)
    print(f"activation maps and LayerGradCam: correlation {agreement:.4f} at least, over {len(rows)} maps")
    print(f"results: {target}")


def seen(probabilities: np.ndarray, thresholds: list[float]) -> list[int]:
    """The labels that an image has, or the likeliest if it has none, from probabilities `[C]`."""
    found = np.flatnonzero(probabilities >= np.asarray(thresholds, np.float32)).tolist()
    return found or [int(probabilities.argmax())]


def attributions(
    trained: TrainedRun, exported: OnnxClassifier, images: np.ndarray, targets: list[int]
) -> dict[str, list[np.ndarray]]:
    """What each method says of each image and its label.

    Args:
        trained: the run, for its network.
        exported: its model.onnx.
        images: uint8 `[N, H, W, 3]`.
        targets: the class of each.

    Returns:
        method → `N` maps float32: `[h, w]` of the last feature map, or `[H, W]`.
    """
    network: MultiLabelNetwork = trained.model.network.eval()
    gradients, cam, occlusion = (
        IntegratedGradients(network),
        LayerGradCam(network, network.architecture.explained(network.backbone)),
        Occlusion(network),
    )
    # Gray as the network sees it: zero after normalization, which speaks neither for nor against a label.
    gray = (network.mean * 255).expand(1, *images.shape[1:]).contiguous()
    window = (max(1, images.shape[1] // 8), max(1, images.shape[2] // 8), 3)
    stride = (max(1, window[0] // 2), max(1, window[1] // 2), 3)
    found: dict[str, list[np.ndarray]] = {
        "activation map": [],
        "LayerGradCam": [],
        "IntegratedGradients": [],
        "Occlusion": [],
    }
    pairs = zip(images, targets, strict=True)
    for image, target in progress(pairs, "explaining", len(targets), unit="map"):
        pixels = torch.from_numpy(image)[None].float()
        found["activation map"].append(exported.activation_maps(image[None])[0, target])
        found["LayerGradCam"].append(cam.attribute(pixels, target=target)[0, 0].detach().numpy())
        marks = gradients.attribute(pixels, gray, target=target, n_steps=STEPS, internal_batch_size=8)
        found["IntegratedGradients"].append(marks[0].sum(2).detach().float().numpy())
        marks = occlusion.attribute(pixels, window, stride, gray, target=target, perturbations_per_eval=16)
        found["Occlusion"].append(marks[0].sum(2).detach().float().numpy())
    return found


def correlation(maps: list[np.ndarray], others: list[np.ndarray]) -> float:
    """The lowest correlation of a map `[h, w]` with its counterpart: 1 where they are proportional.

    A feature map of a single place, or a map that is the same everywhere, has none and is left out; if that leaves
    nothing, it is NaN.
    """
    pairs = [(one.ravel(), other.ravel()) for one, other in zip(maps, others, strict=True)]
    return min((np.corrcoef(*pair)[0, 1] for pair in pairs if min(map(np.ptp, pair)) > 0), default=float("nan"))
