# The manifests' checks. Included by the Makefile.

.PHONY: validate

validate: .venv/installed ## check the Kubernetes manifests: every overlay, component and combination
	@k8s/validate.sh
