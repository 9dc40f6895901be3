"""Put the champion where images take their model from, with its model card and a prediction to compare images with.

    python model_card.py BAR OPTIONS TEMPLATE OUT

Needs the trainer's environment. `TEMPLATE` is the model card with fields in braces; `OPTIONS` are those that the
training data was fetched with.
"""

import argparse
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import yaml

from contract.images import resize
from trainer.data.images import load_rgb
from trainer.errors import UserError
from trainer.model.onnx_file import OnnxClassifier
from trainer.tracking.mlflow import connect
from trainer.tracking.registry import find_champion
from trainer.tracking.runs import run_folder

ROOT = Path(__file__).parents[1]


def publish(bar: float, options: str, template: Path, out: Path) -> None:
    """Write `model.onnx`, `README.md` and `prediction.json`; nothing is left half-written.

    Raises:
        UserError: if there is no champion, or its macro F1 is below the bar.
    """
    version = find_champion(connect())
    if version is None:
        raise UserError("there is no champion to publish")
    path = run_folder(version.run_id) / "model.onnx"
    model = OnnxClassifier(path)
    figures = model.metadata.metrics["test"]
    if not figures["macro_f1"] >= bar:
        raise UserError(f"the champion's macro F1 is {figures['macro_f1']:.4f}, below the bar of {bar}")
    picture = json.loads((ROOT / "models/starter/prediction.json").read_text())["image"]
    height, width = model.metadata.input_size
    pixels = np.asarray(resize(load_rgb(ROOT / picture), (height, width)))[None]
    probabilities = dict(zip(model.metadata.classes, map(float, model(pixels)[0]), strict=True))
    new = out.with_name(out.name + ".new")
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir(parents=True)
    shutil.copy(path, new / "model.onnx")
    (new / "prediction.json").write_text(
        json.dumps({"image": picture, "probabilities": probabilities}, indent=2) + "\n"
    )
    text = template.read_text(encoding="utf-8").format(
        count=len(model.metadata.classes),
        height=height,
        width=width,
        options=options,
        experiment=yaml.safe_load((run_folder(version.run_id) / "config.yaml").read_text())["name"],
        figures=", ".join(f"{name} {value:.3f}" for name, value in figures.items()),
        run=version.run_id,
        commit=model.metadata.git_commit,
        data=model.metadata.data_fingerprint,
    )
    (new / "README.md").write_text(text)
    shutil.rmtree(out, ignore_errors=True)
    new.rename(out)
    print(f"published: {out}, macro F1 {figures['macro_f1']:.4f}")


def main() -> None:
    """Do it; what is wrong is one sentence and status 1."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bar", type=float)
    parser.add_argument("options")
    parser.add_argument("template", type=Path)
    parser.add_argument("out", type=Path)
    arguments = parser.parse_args()
    try:
        publish(arguments.bar, arguments.options, arguments.template, arguments.out)
    except UserError as error:
        sys.exit(f"model_card: {error}")


if __name__ == "__main__":
    main()
