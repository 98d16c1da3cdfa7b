#!/usr/bin/env bash
# Installs the servers that the tests run against, from the Go module proxy, into a cache folder outside the checkout.
#   install.sh minio versitygw     installs what is missing, prints the path of each (2 cores: 190 s and 85 s of CPU)
set -euo pipefail
bin=${AQUEDUCT_SERVICES_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/aqueduct-services}/bin
mkdir -p "$bin"

install() { # PROGRAM MODULE PACKAGE VERSION
  local program=$1 module=$2 package=$3 version=$4 fresh
  command -v go >/dev/null || { echo "go is missing: it builds $program (https://go.dev/dl), or give an address, see tests/services/README.md" >&2; return 1; }
  if ! go version -m "$bin/$program" 2>/dev/null | grep -qF "$(printf 'mod\t%s\t%s' "$module" "$version")"; then
    echo "installing $program $version" >&2
    fresh=$(mktemp -d "$bin/.$program.XXXXXX")
    # Moved into place whole: another checkout may be installing or running it.
    if ! (cd / && GOBIN=$fresh CGO_ENABLED=0 GOFLAGS=-buildvcs=false go install -trimpath "$package@$version" >&2); then
      rm -rf "$fresh"
      return 1
    fi
    mv "$fresh/$program" "$bin/$program"
    rmdir "$fresh"
  fi
  echo "$bin/$program"
}

for program in "$@"; do
  case $program in
    minio) install minio github.com/minio/minio github.com/minio/minio v0.0.0-20250907161309-07c3a429bfed ;;
    versitygw) install versitygw github.com/versity/versitygw github.com/versity/versitygw/cmd/versitygw v1.8.0 ;;
    *) echo "unknown service $program, expected minio or versitygw" >&2; exit 2 ;;
  esac
done
