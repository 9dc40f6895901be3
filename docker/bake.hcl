// The one truth about images: what is built, for which platforms, from which outside inputs, under which names.
// `docker buildx bake -f docker/bake.hcl --print` shows it; every variable can be set in the environment.

variable "REGISTRY" { default = "docker.io" }
variable "NAMESPACE" { default = "manasight" }
variable "VERSION" { default = "0.1.0" }
variable "TAG" { default = VERSION }
variable "SOURCE" { default = "https://github.com/manasight/manasight" }

// docker/images.sh sets these from git; with them two builds of one commit on the same bases give one digest. The times of
// files are set in the build: the exporter's rewrite-timestamp would do it too, but not for the local store ("conflicts
// with unpack"), and it recompressed every layer at each build (28 s measured).
variable "REVISION" { default = "unknown" }
variable "SOURCE_DATE_EPOCH" { default = "0" }
variable "CREATED" { default = "1970-01-01T00:00:00Z" }

variable "PLATFORMS" { default = "linux/amd64,linux/arm64" }

// Outside inputs. Each is a named context: set one to another image or folder, and no Dockerfile changes.
variable "PYTHON_IMAGE" { default = "python:3.13-slim-trixie" }
variable "UV_IMAGE" { default = "ghcr.io/astral-sh/uv:0.13.0@sha256:cdc6093146eb3ff6a40107b38f008b789e050e77ad87865e381d9917da55a168" }
// A folder with model.onnx, and that file's SHA-256 (checked in the build if it is set, and written into a label).
variable "MODEL" { default = "models/starter" }
variable "MODEL_SHA256" { default = "" }
// A folder with resnet18-f37072fd.pth; empty: it is downloaded. Its checksum is verified either way.
variable "WEIGHTS" { default = "" }
// "none" builds a trainer without ImageNet weights, and its label says so.
variable "IMAGENET" { default = "baked" }
// A folder with wheels that are tried before the package index; empty: none.
variable "WHEELS" { default = "" }
// Where torch comes from: a CPU wheel index, or "default", which brings CUDA packages along and switches their check off.
variable "TORCH_INDEX" { default = "https://download.pytorch.org/whl/cpu" }
// A uv.toml with the package index to use and its credentials: a secret of the build, in no layer.
variable "UV_CONFIG" { default = "" }

// Both attestations by default; "false" where the scanner's image cannot be pulled.
variable "SBOM" { default = "true" }
variable "PROVENANCE" { default = "mode=max" }
// "gha", or a registry reference that gets one tag per scope; empty: the builder's own cache only.
variable "CACHE" { default = "" }
// How layers are packed: "gzip", which every registry and runtime takes, or "zstd", which is packed several times faster
// and does for images that stay on this machine. Forced, because a layer that an earlier build left in the cache would
// stay as that one packed it, and the digest would depend on what was built before. With OCI media types, since Docker's
// own have none for zstd: `docker images` does not list such an image.
variable "COMPRESSION" { default = "gzip" }
// "true" uploads instead of keeping the images in the local store.
variable "PUSH" { default = "false" }

group "default" { targets = ["app", "trainer", "mlflow"] }
// What is published: workflows read this list for their matrices (`make targets`).
group "published" { targets = ["app", "mlflow", "trainer", "trainer-cuda"] }

// One scope per target and platform: targets that share one overwrite each other's cache.
function "cache" {
  params = [target, write]
  result = CACHE == "" ? [] : CACHE == "gha" ? [
    "type=gha,scope=${target}-${replace(replace(PLATFORMS, "linux/", ""), ",", "-")}${write ? ",mode=max" : ""}"
    ] : [
    "type=registry,ref=${CACHE}:${target}-${replace(replace(PLATFORMS, "linux/", ""), ",", "-")}${write ? ",mode=max" : ""}"
  ]
}

function "name" {
  params = [image]
  result = "${REGISTRY}/${NAMESPACE}/${image}:${TAG}"
}

function "labels" {
  params = [title, description]
  result = {
    "org.opencontainers.image.title"       = title
    "org.opencontainers.image.description" = description
    "org.opencontainers.image.source"      = SOURCE
    "org.opencontainers.image.revision"    = REVISION
    "org.opencontainers.image.version"     = VERSION
    "org.opencontainers.image.licenses"    = "Apache-2.0"
    "org.opencontainers.image.created"     = CREATED
  }
}

target "_image" {
  context   = "."
  platforms = split(",", PLATFORMS)
  args = { SOURCE_DATE_EPOCH = SOURCE_DATE_EPOCH }
  attest    = concat([PROVENANCE == "false" ? "type=provenance,disabled=true" : "type=provenance,${PROVENANCE}"], SBOM == "true" ? ["type=sbom"] : [])
  output    = ["type=image,push=${PUSH},compression=${COMPRESSION},force-compression=true,oci-mediatypes=true"]
  secret    = UV_CONFIG == "" ? [] : ["id=uv_config,src=${UV_CONFIG}"]
  contexts = merge({
    base = "target:base"
    tools = "target:tools"
  }, WHEELS == "" ? {} : { wheels = WHEELS })
}

// The runtime's root file system: Python and its libraries, no shell, no package manager.
target "base" {
  context    = "docker"
  dockerfile = "base.Dockerfile"
  target     = "base"
  platforms  = split(",", PLATFORMS)
  args       = { SOURCE_DATE_EPOCH = SOURCE_DATE_EPOCH }
  contexts   = { python = "docker-image://${PYTHON_IMAGE}", uv = "docker-image://${UV_IMAGE}" }
  output     = ["type=cacheonly"]
}

// What unpacks wheels, always on the platform that builds.
target "tools" {
  inherits = ["base"]
  target   = "tools"
}

target "app" {
  inherits   = ["_image"]
  dockerfile = "docker/app.Dockerfile"
  tags       = [name("app")]
  args       = { MODEL_SHA256 = MODEL_SHA256 }
  contexts   = { model = MODEL }
  labels = merge(labels("Manasight app", "Upload an image, see its labels: Streamlit and ONNX Runtime with a model inside"), {
    "org.manasight.model.sha256" = MODEL_SHA256
  })
  cache-from = cache("app", false)
  cache-to   = cache("app", true)
}

target "trainer" {
  inherits   = ["_image"]
  dockerfile = "docker/trainer.Dockerfile"
  tags       = [name("trainer")]
  args       = { TORCH_INDEX = TORCH_INDEX, IMAGENET = IMAGENET, REVISION = REVISION }
  // Without weights any folder will do: nothing is read from it, and nothing is downloaded.
  contexts = merge({ model = MODEL }, IMAGENET == "none" ? { weights = "docker" } : WEIGHTS == "" ? {} : { weights = WEIGHTS })
  labels = merge(labels("Manasight trainer", "The job: images in folders to a tracked, exported model"), {
    "org.manasight.imagenet-weights" = IMAGENET
    "org.manasight.torch-index"      = TORCH_INDEX
  })
  cache-from = cache("trainer", false)
  cache-to   = cache("trainer", true)
}

// The same job on CUDA's build of torch.
target "trainer-cuda" {
  inherits = ["trainer"]
  tags     = [name("trainer-cuda")]
  args     = { TORCH_INDEX = "default" }
  labels   = { "org.manasight.torch-index" = "default" }
  cache-from = cache("trainer-cuda", false)
  cache-to   = cache("trainer-cuda", true)
}

target "mlflow" {
  inherits   = ["_image"]
  dockerfile = "docker/mlflow.Dockerfile"
  tags       = [name("mlflow")]
  labels     = labels("Manasight MLflow", "Tracking server and registry with its artifacts in S3")
  cache-from = cache("mlflow", false)
  cache-to   = cache("mlflow", true)
}
