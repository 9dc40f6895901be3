"""KServe's and Triton's own clients against a running app: what they answer is what /api/predict answers.

    uv run --no-project --with 'tritonclient[http]' --with kserve python benchmarks/clients.py http://localhost:80 IMAGE

MLflow's scoring client is in tests/unit/test_app_protocols.py.
"""

import asyncio
import base64
import json
import sys
import urllib.request
from pathlib import Path

import numpy as np
import tritonclient.http as triton
from kserve import InferenceRESTClient, InferInput, InferRequest, RESTConfig

NAME = "manasight"


def reference(url: str, image: bytes) -> np.ndarray:
    """Probabilities float `[C]` of the app's own API."""
    request = urllib.request.Request(f"{url}/api/predict", image, {"Content-Type": "image/jpeg"})  # noqa: S310 - a given address
    with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310
        return np.array(list(json.load(answer)["images"][0]["probabilities"].values()))


def by_triton(url: str, image: bytes) -> np.ndarray:
    """Probabilities by Triton's HTTP client, binary in both directions."""
    with triton.InferenceServerClient(url.partition("://")[2]) as client:
        assert client.is_server_live()
        assert client.is_server_ready()
        assert client.is_model_ready(NAME)
        described = client.get_model_metadata(NAME)
        assert client.is_model_ready(NAME, described["versions"][0])
        assert client.get_server_metadata()["name"] == "manasight"
        sent = triton.InferInput("image", [1], "BYTES")
        sent.set_data_from_numpy(np.array([image], dtype=object))
        found = client.infer(NAME, [sent], request_id="1")
        assert json.loads(found.as_numpy("labels")[0])
        pixels = np.zeros((2, *described["inputs"][0]["shape"][1:]), np.uint8)
        tensor = triton.InferInput("image", pixels.shape, "UINT8")
        for binary in (True, False):
            tensor.set_data_from_numpy(pixels, binary_data=binary)
            wanted = [triton.InferRequestedOutput("probabilities", binary_data=binary)]
            assert client.infer(NAME, [tensor], outputs=wanted).as_numpy("probabilities").shape[0] == 2
        return found.as_numpy("probabilities")[0]


async def by_kserve(url: str, image: bytes) -> np.ndarray:
    """Probabilities by KServe's REST client."""
    client = InferenceRESTClient(RESTConfig(protocol="v2", timeout=60))
    assert await client.is_server_live(url)
    assert await client.is_server_ready(url)
    assert await client.is_model_ready(url, NAME)
    sent = InferInput("image", [1], "BYTES", [base64.b64encode(image).decode()])
    found = await client.infer(url, InferRequest(NAME, [sent]), model_name=NAME)
    return next(output.as_numpy() for output in found.outputs if output.name == "probabilities")[0]


def main() -> None:
    """Ask by each client; a difference ends with an error."""
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    url, image = sys.argv[1], Path(sys.argv[2]).read_bytes()
    expected = reference(url, image)
    for name, found in {"tritonclient": by_triton(url, image), "kserve": asyncio.run(by_kserve(url, image))}.items():
        np.testing.assert_allclose(found, expected, atol=1e-5)
        print(f"{name}: the same {len(expected)} probabilities")


if __name__ == "__main__":
    main()
