#!/usr/bin/env bash
# Makes the stack's secrets, each a file of random letters in .secrets/NAME OF THE STACK/, and refuses weak ones that somebody put there.
# The folder keeps other users of the machine out (0700). The files in it can be read by everybody, since compose mounts
# them as they are and the containers run as users that do not exist here.
set -euo pipefail
cd "$(dirname "$0")/.."
umask 077
folder=.secrets/${COMPOSE_PROJECT_NAME:-manasight}
mkdir -p "$folder"
chmod 700 .secrets "$folder"
for name in postgres mlflow_database minio mlflow_admin mlflow_key; do
  file=$folder/$name
  [ -e "$file" ] || { head -c 24 /dev/urandom | od -An -tx1 | tr -d ' \n' >"$file.part" && mv "$file.part" "$file"; }
  chmod 444 "$file"
  value=$(cat "$file")
  case $(tr '[:upper:]' '[:lower:]' <<<"$value") in
    *password* | *minioadmin* | *changeme* | *postgres* | *secret* | *admin* | *12345678*)
      echo "$file holds a default or guessable password; delete the file and a random one is made (a running stack keeps its old one)" >&2
      exit 1 ;;
  esac
  if [ "${#value}" -lt 16 ] || [ "$(fold -w1 <<<"$value" | sort -u | wc -l)" -lt 8 ]; then
    echo "$file holds a password that is too short or too uniform; at least 16 characters, 8 of them different, are asked for" >&2
    exit 1
  fi
done
