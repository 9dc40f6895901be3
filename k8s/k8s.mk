# Checks of the manifests, and a cluster to try them on. Included by the Makefile.

# The node image that the manifests are tested on; Renovate keeps it current.
KIND_NODE ?= kindest/node:v1.37.0@sha256:a1ed56cfb0e7b93589bdf97c8cd566405a265939e3620fc4f5de89adff580ae5
export KIND_NODE

.PHONY: validate kind test-cluster

validate: .venv/installed ## check the Kubernetes manifests: every overlay, component and combination
	@k8s/validate.sh

kind: ## create a Kubernetes cluster in containers and load this tree's images (KIND_NODE=image)
	@k8s/kind.sh

test-cluster: .venv/installed ## run every pod of the manifests as a container and kill workers of a distributed job (Docker)
	@PLATFORMS=linux/$$(docker version --format '{{.Server.Arch}}') COMPRESSION=zstd docker/images.sh app mlflow trainer
	$(BIN)/pytest tests/cluster --durations 5
