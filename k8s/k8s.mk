# The manifests' checks. Included by the Makefile.

.PHONY: validate test-cluster

validate: .venv/installed ## check the Kubernetes manifests: every overlay, component and combination
	@k8s/validate.sh

test-cluster: .venv/installed ## run every pod of the manifests as a container, and lose workers of a distributed job (Docker)
	@PLATFORMS=linux/$$(docker version --format '{{.Server.Arch}}') COMPRESSION=zstd docker/images.sh app mlflow trainer
	$(BIN)/pytest tests/cluster --durations 5
