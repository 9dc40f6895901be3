#!/bin/sh
# Starts SeaweedFS as the stand-in for Silo: the same S3 API, port and MINIO_* settings, no console and no admin API.
set -eu
echo "This is SeaweedFS, standing in for Silo where no registry answers." >&2
AWS_SECRET_ACCESS_KEY=$(cat "$MINIO_ROOT_PASSWORD_FILE")
export AWS_ACCESS_KEY_ID="$MINIO_ROOT_USER" AWS_SECRET_ACCESS_KEY
exec weed mini -dir=/data -ip=127.0.0.1 -ip.bind=0.0.0.0 -webdav=false -admin.ui=false \
  -s3.port=9000 -s3.port.iceberg=0 -s3.port.lance=0
