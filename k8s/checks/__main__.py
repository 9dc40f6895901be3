"""Runs all checks: every overlay, every component and every combination. Exit status 1 if anything is found."""

import sys
from pathlib import Path

from checks import (
    admission,
    commands,
    drift,
    images,
    in_step,
    kustomizations,
    network,
    programs,
    references,
    restricted,
    schemas,
    storage,
)
from checks.manifests import Finding, Manifests
from checks.render import ROOT, BuildError, build_all, components, working_copy

# What is wrong with no overlay in particular.
TREE = "k8s"


def findings(manifests: Manifests) -> list[Finding]:
    """All that is wrong with what one kustomization renders to."""
    found = [*schemas.check(manifests)]
    if found:  # the other checks rely on a form that fits
        return found
    checks = (admission, restricted, storage, references, programs, images, network, drift)
    return [finding for check in checks for finding in check.check(manifests)]


def validate(source: Path = ROOT / "k8s") -> dict[str, list[Finding]]:
    """Everything that is wrong, by kustomization and page; an empty list is a pass."""
    results: dict[str, list[Finding]] = {}
    with working_copy(source) as copy:
        known, rendered = components(copy), {}
        for name, (folder, found) in build_all(copy).items():
            if isinstance(found, BuildError):
                results[name] = [Finding("build", str(found))]
            else:
                rendered[name] = found
                results[name] = [*findings(found), *kustomizations.check(folder, found, known)]
        results[TREE] = [*kustomizations.check_tree(copy)]
        if "overlays/local" in rendered:
            results[TREE] += in_step.check(rendered["overlays/local"], source)
    for page in commands.pages():
        results[str(page.relative_to(ROOT))] = list(commands.check(page, list(rendered.values())))
    return results


def main() -> int:
    """Print what was checked and what was found."""
    results = validate()
    wrong = 0
    for name, found in results.items():
        if found:
            wrong += len(found)
            print(f"{name}: refused", *(f"  {finding}" for finding in dict.fromkeys(map(str, found))), sep="\n")
    pages = sum(name.endswith(".md") for name in results)
    if wrong:
        print(f"validate: {wrong} findings in {sum(map(bool, results.values()))} of {len(results)} things checked")
        return 1
    versions = ", ".join(schemas.VERSIONS)
    print(f"validate: {len(results) - pages - 1} kustomizations and {pages} pages are in order", end="")
    print(f" (Kubernetes {versions}, the restricted profile)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
