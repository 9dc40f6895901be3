"""Checks of the manifests below k8s/: `k8s/validate.sh` runs them all, locally and in CI."""
