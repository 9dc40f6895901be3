#!/usr/bin/env bash
# Builds every overlay, every component and every pair of components that go together, and checks the result against the
# schemas of three Kubernetes versions (kubernetes-validate) and for hardening (checkov; k8s/checkov.yaml says what is let
# through). Usage: validate.sh [FOLDER]; with a folder it only builds, into one file per kustomization.
set -euo pipefail
cd "$(dirname "$0")/.."
PATH=$PWD/.venv/bin:$PATH
versions=(1.37 1.36 1.35)
# Groups that come with an add-on. Only a cluster that has it knows their fields: `kubectl apply --dry-run=server`.
addons='external-secrets\.io|gateway\.networking\.k8s\.io|monitoring\.coreos\.com|trainer\.kubeflow\.org'

fail() { echo "validate: $*" >&2; exit 1; }
command -v kubernetes-validate >/dev/null || fail "kubernetes-validate is missing: \`make validate\` installs it"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
tree=$work/k8s built=${1:-$work/built}
mkdir -p "$tree/combinations" "$built"
cp -R k8s/base k8s/components k8s/images k8s/overlays "$tree"

# What a component says about itself in its annotations: conflicts, order, secrets.
annotation() { sed -n "s|^ *manasight/$2: *\"\{0,1\}\([^\"]*\)\"\{0,1\}|\1|p" "$tree/components/$1/kustomization.yaml"; }
conflict() { [[ " $(annotation "$1" conflicts) " == *" $2 "* || " $(annotation "$2" conflicts) " == *" $1 "* ]]; }

# combine COMPONENT...: a kustomization of the local overlay with these components and the secrets that they ask for.
combine() {
  local name entry keys folder
  folder="$tree/combinations/$(tr ' ' + <<<"$*")"
  mkdir "$folder"
  {
    printf '{namespace: manasight, resources: [../../overlays/local], generatorOptions: {disableNameSuffixHash: true},\n'
    printf 'components: ['
    printf '../../components/%s, ' "$@"
    printf '],\nsecretGenerator: ['
    for name in "$@"; do
      for entry in $(annotation "$name" secrets); do
        keys=${entry#*=}
        printf '{name: %s, literals: [%s=made-up-for-tests]}, ' "${entry%%=*}" "${keys//,/=made-up-for-tests, }"
      done
    done
    printf ']}\n'
  } >"$folder/kustomization.yaml"
}

overlays=()
while read -r file; do
  ! grep -q '^kind: Component' "$file" || continue
  overlays+=("$(dirname "$file")")
  for secret in $(sed -n 's/.*files: \[[a-z_]*=\(.*\)\]/\1/p' "$file"); do
    mkdir -p "$(dirname "$(dirname "$file")/$secret")"
    printf made-up-for-tests >"$(dirname "$file")/$secret" # with a newline it would be another password in a variable than in a file
  done
done < <(find "$tree/overlays" -name kustomization.yaml -o -name kustomization.yml -o -name Kustomization | sort)

# In the order in which they are applied: those that others patch come first.
read -ra components < <(for folder in "$tree"/components/*/; do
  name=$(basename "$folder") order=$(annotation "$(basename "$folder")" order)
  echo "${order:-9} $name"
done | sort -n | awk '{ printf "%s ", $2 } END { print "" }')
for ((i = 0; i < ${#components[@]}; i++)); do
  combine "${components[i]}"
  for ((j = i + 1; j < ${#components[@]}; j++)); do
    conflict "${components[i]}" "${components[j]}" || combine "${components[i]}" "${components[j]}"
  done
done

printf '%s\0' "${overlays[@]}" "$tree"/combinations/* | xargs -0 -P "$(getconf _NPROCESSORS_ONLN)" -I '{}' bash -c '
  name=${1#"$2/"}
  kubectl kustomize "$1" >"$3/${name//\//-}.yaml" || { echo "validate: $name cannot be built" >&2; exit 1; }' \
  build '{}' "$tree" "$built"
[ $# = 0 ] || exit 0

# Most objects are the same in all kustomizations: each is checked once, in the first that has it.
mkdir "$work/unique"
awk -v folder="$work/unique" '
  function flush() { if (text && !seen[text]++) printf "---\n%s", text >>(folder "/" name); text = "" }
  FNR == 1 { flush(); name = FILENAME; sub(".*/", "", name) }
  /^---$/ { flush(); next }
  { text = text $0 "\n" }
  END { flush() }' "$built"/*.yaml
status=0
kubernetes-validate --quiet --strict "${versions[@]/#/--kubernetes-version=}" "$work"/unique/*.yaml >"$work/schemas" || status=1
! grep -vE "^WARN .* api version ($addons)/" "$work/schemas" || status=1
uv tool run --quiet --from checkov==3.3.30 checkov --config-file k8s/checkov.yaml --directory "$work/unique" || status=1
[ "$status" = 0 ] || fail "findings above"
echo "validate: $(ls "$built" | wc -l) kustomizations fit the schemas of Kubernetes ${versions[*]} and checkov's rules"
