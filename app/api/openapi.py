"""The OpenAPI document of the HTTP API; a test compares it with what the server answers."""

from typing import Any


def document(max_images: int, max_body: int) -> dict[str, Any]:
    """The document, with the limits of one request: images, and bytes of the body."""

    def answer(text: str, schema: str) -> dict[str, Any]:
        return {
            "description": text,
            "content": {"application/json": {"schema": {"$ref": f"#/components/schemas/{schema}"}}},
        }

    def fields(**properties: dict[str, Any]) -> dict[str, Any]:
        return {"type": "object", "required": list(properties), "properties": properties}

    text = {"type": "string"}
    texts = {"type": "array", "items": text}
    probability = {"type": "number", "minimum": 0, "maximum": 1}
    served = {"name": text, "version": {"type": ["string", "null"]}, "sha256": text, "run_id": text}
    image = {"type": "string", "format": "binary"}
    files = {"type": "array", "minItems": 1, "items": image}
    form = {"type": "object", "required": ["file"], "properties": {"file": files}}
    failed = fields(name=text, error=text)
    failures = {
        "400": answer("The client went away.", "Error"),
        "408": answer("Nothing of the request arrived for too long.", "Error"),
        "413": answer(f"More than {max_body // 1024**2} MB, or more than {max_images} images.", "Error"),
        "415": answer("The body is neither a form nor an image.", "Error"),
        "422": answer("No image could be read, or the label is unknown.", "Error"),
        "429": answer("Too many requests at once.", "Error"),
        "500": answer("The prediction failed.", "Error"),
        "503": answer("No model answers, or not in time.", "Error"),
    }
    heat_map = {
        "name": "heatmap",
        "in": "query",
        "description": "A label of the model: answer with its heat map over the one image, as PNG.",
        "schema": text,
    }
    predicted = answer("Labels and probabilities, one entry per image in the order sent.", "Answer")
    predicted["content"]["image/png"] = {"schema": image}
    ready = {"200": answer("It does.", "Ready"), "503": answer("It does not.", "NotReady")}
    thing = {"schema": {"type": "object"}}
    asked = {"required": True, "content": {"application/json": thing}}
    answered = {"description": "Predictions.", "content": {"application/json": thing, "application/octet-stream": {}}}
    missing = {"404": answer("The model is not served.", "Error"), "503": failures["503"]}
    invoked = {"200": answered, "409": answer("The model changed meanwhile.", "Error"), **failures}
    return {
        "openapi": "3.1.0",
        "info": {"title": "Manasight", "version": "1", "description": "Multi-label image classification."},
        "paths": {
            "/api/predict": {
                "post": {
                    "summary": "Predict the labels of images",
                    "parameters": [heat_map],
                    "requestBody": {
                        "required": True,
                        "content": {
                            "multipart/form-data": {"schema": form},
                            "image/*": {"schema": image},
                            "application/octet-stream": {"schema": image},
                        },
                    },
                    "responses": {"200": predicted, **failures},
                }
            },
            "/api/model": {
                "get": {
                    "summary": "The model in use",
                    "responses": {"200": answer("Its classes and origin.", "Model"), "503": failures["503"]},
                }
            },
            "/ready": {"get": {"summary": "Whether a model answers", "responses": ready}},
            "/invocations": {
                "post": {"summary": "The same for MLflow's clients", "requestBody": asked, "responses": invoked}
            },
            "/ping": {"get": {"summary": "Whether a model answers, for MLflow's clients", "responses": ready}},
            **_open_inference(text, asked, invoked, ready, missing),
            "/metrics": {
                "get": {
                    "summary": "Counters for Prometheus",
                    "responses": {
                        "200": {"description": "Prometheus's text format.", "content": {"text/plain": {}}},
                        "404": answer("The request came through a proxy.", "Error"),
                    },
                }
            },
        },
        "components": {
            "schemas": {
                # The result of a form lists each image.
                "Error": {
                    "type": "object",
                    "required": ["error"],
                    "properties": {"error": text, "images": {"type": "array", "items": failed}},
                },
                "Ready": fields(ready={"const": True}, model=text),
                "NotReady": fields(ready={"const": False}, error=text),
                "Answer": fields(
                    model=fields(**served),
                    images={
                        "type": "array",
                        "items": {
                            "oneOf": [
                                fields(
                                    name=text,
                                    labels=texts,
                                    probabilities={
                                        "type": "object",
                                        "additionalProperties": probability,
                                    },
                                ),
                                failed,
                            ]
                        },
                    },
                ),
                "Model": fields(
                    **served,
                    classes=texts,
                    thresholds={"type": "array", "items": probability},
                    input_size={"type": "array", "items": {"type": "integer"}, "minItems": 2, "maxItems": 2},
                    letterbox={"type": "boolean"},
                    git_commit=text,
                    data_fingerprint=text,
                    metrics={"type": "object"},
                ),
            }
        },
    }


def _open_inference(
    text: dict[str, Any], asked: dict[str, Any], invoked: dict[str, Any], ready: dict[str, Any], missing: dict[str, Any]
) -> dict[str, Any]:
    """The paths of the Open Inference Protocol, which describes them in full."""
    found = {
        "200": {"description": "Its description.", "content": {"application/json": {"schema": {"type": "object"}}}}
    }
    paths: dict[str, Any] = {
        "/v2": {"get": {"summary": "The server", "responses": found}},
        "/v2/health/live": {"get": {"summary": "Whether the server runs", "responses": found}},
        "/v2/health/ready": {"get": {"summary": "Whether a model answers", "responses": ready}},
    }
    for model, names in (
        ("/v2/models/{name}", ["name"]),
        ("/v2/models/{name}/versions/{version}", ["name", "version"]),
    ):
        parameters = [{"name": name, "in": "path", "required": True, "schema": text} for name in names]
        infer = {"summary": "Predict", "requestBody": asked, "responses": invoked | missing}
        paths[model] = {"get": {"summary": "The model's tensors", "responses": found | missing}}
        paths[f"{model}/ready"] = {"get": {"summary": "Whether this model answers", "responses": found | missing}}
        paths[f"{model}/infer"] = {"post": infer}
        for suffix in ("", "/ready", "/infer"):
            paths[model + suffix]["parameters"] = parameters
    return paths
