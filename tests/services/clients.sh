#!/usr/bin/env bash
# clients.sh CLIENT : makes a Kafka client that is not Apache Kafka's, in a cache folder outside the checkout, once, and prints
# the program that runs it.
#   clients.sh librdkafka    Confluent's Python client, from PyPI (10 MB), which runs tests/clients/librdkafka.py
#   clients.sh kcat          the kcat on the path, else Debian's packages, not installed but unpacked (700 KB; an older librdkafka)
#   clients.sh franz         tests/clients/franz, built by Go of at least 1.21 from modules of its proxy (60 s of CPU)
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache=${AQUEDUCT_SERVICES_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/aqueduct-services}
bin=$cache/bin
mkdir -p "$bin"

kcat() { # FOLDER: unpacks Debian's kcat and what it stands on, with a script that runs it
  command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null ||
    { echo "kcat is missing: install it (Debian: apt-get install kcat), see tests/services/README.md" >&2; return 1; }
  local packages=(kcat librdkafka1 libyajl2)
  # A fresh machine has no lists yet; whoever may not fetch them is told by apt.
  (cd "$1" && { apt-get download -q "${packages[@]}" || { apt-get update -q && apt-get download -q "${packages[@]}"; }; }) >&2 || return 1
  for package in "$1"/*.deb; do
    dpkg-deb -x "$package" "$1/root" || return 1
  done
  rm "$1"/*.deb
  # What it runs against are the machine's own libraries but for the two above.
  printf '%s\n' '#!/bin/sh' 'here=$(dirname "$(readlink -f "$0")")' 'LD_LIBRARY_PATH=$(dirname "$here"/root/usr/lib/*/librdkafka.so.1)' \
    'export LD_LIBRARY_PATH' 'exec "$here/root/usr/bin/kcat" "$@"' >"$1/kcat"
  chmod +x "$1/kcat"
}

franz() { # FOLDER: builds the program
  command -v go >/dev/null || { echo "go is missing: it builds tests/clients/franz (https://go.dev/dl, 1.21 or later)" >&2; return 1; }
  (cd "$here/../clients/franz" && CGO_ENABLED=0 GOFLAGS='-buildvcs=false -mod=readonly' go build -trimpath -o "$1/franz" . >&2)
}

made() { # CLIENT PLACE: by its function, where it is not there yet; one at a time, since several tests may start at once
  exec 9>"$cache/clients-$1.lock"
  flock 9
  if [ ! -e "$2/$1" ]; then
    echo "making $1" >&2
    local fresh
    fresh=$(mktemp -d "$bin/.$1.XXXXXX")
    if ! "$1" "$fresh"; then
      rm -rf "$fresh"
      return 1
    fi
    chmod 755 "$fresh"
    mv -T "$fresh" "$2"
  fi
  echo "$2/$1"
}

case ${1:-} in
  librdkafka) exec bash "$here/readers.sh" serializers ;;
  kcat) type -P kcat || made kcat "$bin/kcat-1" ;;
  franz) made franz "$bin/franz-$(cat "$here"/../clients/franz/* | sha256sum | cut -c1-12)" ;;
  *) echo "unknown client ${1:-}, expected librdkafka, kcat or franz" >&2; exit 2 ;;
esac
