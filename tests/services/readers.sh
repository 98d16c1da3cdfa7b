#!/usr/bin/env bash
# Makes a Python with what reads objects with columns, from PyPI, in a cache folder outside the checkout, and prints its
# path. Once, 60 MB of downloads. `readers.sh serializers`: one with Confluent's own serializers, 10 MB.
set -euo pipefail
cache=${AQUEDUCT_SERVICES_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/aqueduct-services}
wanted=(pyarrow==26.0.1 duckdb==2.0.0 fastavro==1.13.1 cramjam==2.14.0 zstandard==0.25.0 lz4==4.4.5 pytz==2026.6 backports.zstd==1.8.0)
if [ "${1:-}" = serializers ]; then
  wanted=(confluent-kafka==2.16.0 fastavro==1.13.1 protobuf==7.36.2 googleapis-common-protos==1.76.0 jsonschema==4.26.0 attrs==26.1.0
    cachetools==8.0.1 httpx2==2.16.2 authlib==1.9.9 certifi==2026.10.18 typing_extensions==4.16.0 requests==2.34.2)
fi
place=$cache/readers-$(printf '%s\n' "${wanted[@]}" | sha256sum | cut -c1-12)
if [ ! -e "$place/ready" ]; then
  command -v python3 >/dev/null || { echo "python3 is missing: it reads objects back (https://python.org)" >&2; exit 1; }
  mkdir -p "$cache"
  # One at a time: several test programs may start at once.
  exec 9>"$cache/readers.lock"
  flock 9
  if [ ! -e "$place/ready" ]; then
    rm -rf "$place"
    python3 -m venv "$place" >&2
    "$place/bin/pip" install -q --disable-pip-version-check "${wanted[@]}" >&2
    touch "$place/ready"
  fi
fi
echo "$place/bin/python"
