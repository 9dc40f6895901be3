"""How far the app's answers are from torch's: the same pictures through the checkpoint and through the app's own code.

    python benchmarks/agreement.py FOLDER [--run latest]

FOLDER is searched for images; the run needs its checkpoint and its model.onnx (`manasight export`). torch reads them
with the trainer's code and computes in float32; the app decodes, resizes and predicts as it does for a user.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from app import decoding
from app.serving.model import Model
from contract.decoding import Wanted
from contract.images import resize
from trainer.data.images import load_rgb
from trainer.data.samples import find_images
from trainer.model.onnx_file import decided
from trainer.report.evaluation import evaluation_of
from trainer.tracking.runs import load_run


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--run", default="latest")
    options = parser.parse_args()
    trained = load_run(options.run)
    temperature = evaluation_of(trained)["temperature"]
    model = Model.from_file(trained.folder / "model.onnx")
    expected, found = [], []
    for path in tqdm(find_images(options.folder)[0], unit="image", disable=None):
        pixels = np.array(resize(load_rgb(path), trained.data.input_size))
        with torch.inference_mode():
            expected.append((trained.model(torch.from_numpy(pixels)[None]) / temperature).sigmoid()[0].numpy())
        size = trained.data.input_size
        image = decoding.pixels(decoding.decoders.decode(path.read_bytes(), Wanted(size=size)), size)
        found.append(model.predict(image[None])[0].probabilities)
    reference, served = np.stack(expected), np.stack(found)
    differing = (decided(reference, model.thresholds) != decided(served, model.thresholds)).any(axis=1)
    print(f"{len(served)} images, {served.shape[1]} classes")
    print(f"largest difference of a probability: {np.abs(served - reference).max():.1e}")
    print(f"images with another set of labels:   {differing.sum()}")


if __name__ == "__main__":
    main()
