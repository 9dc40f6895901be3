#!/usr/bin/env bash
# Proposes the model in models/published: a release that holds the file, and a pull request with its card and checksum.
set -euo pipefail
cd "$(dirname "$0")/.."
folder=models/published
fail() { echo "propose-model: $*" >&2; exit 1; }
: "${GH_TOKEN:?a token}"
[ -s "$folder/model.onnx" ] || fail "there is no $folder/model.onnx; \`make train-model\` makes it"
sum=$(sha256sum "$folder/model.onnx" | cut -d ' ' -f 1)
tag=model-${sum:0:12}
repository=${GITHUB_REPOSITORY:?owner/name}
# A draft is what an upload that was killed has left.
draft=$(gh release view "$tag" --json isDraft --jq .isDraft 2>/dev/null) || draft=
[ "$draft" != true ] || gh release delete "$tag" --yes
[ "$draft" = false ] \
  || gh release create "$tag" "$folder/model.onnx" --title "Model $tag" --notes-file "$folder/README.md" --latest=false
printf '{\n  "url": "https://github.com/%s/releases/download/%s/model.onnx",\n  "sha256": "%s"\n}\n' "$repository" "$tag" "$sum" >"$folder/model.json"
before=$(git branch --show-current)
git switch --force-create "$tag"
git add "$folder/README.md" "$folder/model.json" "$folder/prediction.json"
if ! git diff --cached --quiet; then
  git -c user.name="github-actions[bot]" -c user.email="41898282+github-actions[bot]@users.noreply.github.com" \
    commit --quiet --message "Model $tag, trained on real cards"
elif [ "$before" != "$tag" ]; then  # else the commit is of a run that was killed before it pushed
  echo "propose-model: '$before' has this model already"
  exit 0
fi
git -c "http.extraheader=AUTHORIZATION: basic $(printf 'x-access-token:%s' "${GH_TOKEN:?a token}" | base64 | tr -d '\n')" push --force origin "refs/heads/$tag:refs/heads/$tag"
gh pr view "$tag" >/dev/null 2>&1 || gh pr create --head "$tag" --title "Model $tag" --body-file "$folder/README.md"
