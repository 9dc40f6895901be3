"""Every object against the schemas of three Kubernetes versions, strictly: an unknown field is an error."""

import functools
import json
from collections.abc import Iterator
from pathlib import Path

import jsonschema
import kubernetes_validate
import yaml
from kubernetes_validate import utils

from checks.manifests import Finding, Manifests, Object, title

# The newest and the two before it, which the Kubernetes project still mends.
VERSIONS = ("1.37", "1.36", "1.35")
# Kinds that a cluster has only with an add-on: the fields that these manifests use, from the add-ons' own definitions.
ADD_ONS = Path(__file__).with_name("schemas")

# The package reads its files anew for every object.
utils.schema_contents = functools.cache(utils.schema_contents)


def check(manifests: Manifests) -> Iterator[Finding]:
    """What the API server would refuse or ignore."""
    for found in manifests.objects:
        yield from (Finding(title(found), sentence) for sentence in _problems(json.dumps(found, sort_keys=True)))
    for pod in manifests.pods:
        if pod.owner.startswith("TrainJob/"):  # its pod is in pieces that no schema of an add-on sees as one
            whole = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "pod"}, "spec": pod.spec}
            yield from (Finding(pod.owner, sentence) for sentence in _problems(json.dumps(whole, sort_keys=True)))


@functools.cache
def _problems(text: str) -> tuple[str, ...]:
    found: Object = json.loads(text)
    add_on = ADD_ONS / f"{found['kind'].lower()}.yaml"
    if add_on.exists():
        schema = yaml.safe_load(add_on.read_text())
        if found["apiVersion"] != schema["properties"]["apiVersion"]["const"]:
            return (f"{found['apiVersion']} is not the API version {schema['properties']['apiVersion']['const']}",)
        errors = sorted(jsonschema.Draft202012Validator(schema).iter_errors(found), key=lambda error: error.json_path)
        return tuple(_sentence(error, "its add-on's schema") for error in errors)
    problems = []
    for version in VERSIONS:
        try:
            kubernetes_validate.validate(found, version, strict=True)
        except kubernetes_validate.ValidationError as error:
            problems.append(_sentence(error, f"Kubernetes {version}"))
        except kubernetes_validate.SchemaNotFoundError:
            problems.append(f"Kubernetes {version} has no {found['kind']} in {found['apiVersion']}")
    return tuple(problems)


def _sentence(error: jsonschema.ValidationError, where: str) -> str:
    best = jsonschema.exceptions.best_match([error]) or error
    place = ".".join(str(part) for part in best.absolute_path) or "the object"
    return f"{place} does not fit {where}: {best.message[:160]}"
