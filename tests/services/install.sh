#!/usr/bin/env bash
# Installs the servers that the tests run against, from the Go module proxy and Maven Central, into a cache folder outside the
# checkout.
#   install.sh minio versitygw     installs what is missing, prints the path of each (2 cores: 190 s and 85 s of CPU)
#   install.sh opensearch elasticsearch       (20 s and 15 s, 53 and 43 MB)
#   install.sh apicurio                       (15 s, 140 MB)
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
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

java_server() { # PROGRAM: a folder beside this script, with what Maven is to fetch and a Server.java
  local program=$1 from=$here/$1 digest fresh
  for tool in mvn java javac; do
    command -v "$tool" >/dev/null || { echo "$tool is missing: it makes $program, or give an address, see tests/services/README.md" >&2; return 1; }
  done
  digest=$(cat "$from/pom.xml" "$from/Server.java" "${BASH_SOURCE[0]}" | sha256sum | cut -c1-12)
  if [ ! -e "$bin/$program-$digest/run" ]; then
    echo "installing $program" >&2
    fresh=$(mktemp -d "$bin/.$program.XXXXXX")
    if ! fetch_java "$program" "$from" "$fresh" "$bin/$program-$digest" >&2; then
      rm -rf "$fresh"
      return 1
    fi
    # Somebody else may have been faster: then theirs is as good.
    mv -T "$fresh" "$bin/$program-$digest" 2>/dev/null || rm -rf "$fresh"
  fi
  echo "$bin/$program-$digest/run"
}

fetch_java() { # PROGRAM FROM FOLDER PLACE: fills FOLDER, which will stand at PLACE
  local program=$1 from=$2 folder=$3 place=$4
  local copy=org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy-dependencies
  mvn -q -B -f "$from/pom.xml" "$copy" -DoutputDirectory="$folder/lib" -DincludeScope=runtime || return 1
  mkdir -p "$folder/home/config" "$folder/home/plugins" "$folder/home/modules"
  if [ "$program" = elasticsearch ]; then netty_module "$folder" || return 1; fi
  javac -cp "$folder/lib/*" -d "$folder/classes" "$from/Server.java" || return 1
  cat >"$folder/run" <<RUN
#!/bin/sh
exec java -Xms512m -Xmx512m -Dhome='$place/home' -cp '$place/classes:$place/lib/*' Server "\$@"
RUN
  chmod +x "$folder/run"
}

netty_module() { # FOLDER: Elasticsearch loads its HTTP as a module, from a folder with a description
  local version module=$1/home/modules/transport-netty4
  version=$(basename "$1"/lib/elasticsearch-[0-9]*.jar .jar)
  version=${version#elasticsearch-}
  mkdir -p "$module"
  mv "$1"/lib/transport-netty4-*.jar "$1"/lib/netty-*.jar "$module/"
  printf '%s\n' name=transport-netty4 description=netty "version=$version" java.version=17 "elasticsearch.version=$version" \
    classname=org.elasticsearch.transport.netty4.Netty4Plugin has.native.controller=false extended.plugins= \
    >"$module/plugin-descriptor.properties"
}

apicurio() { # a schema registry with Confluent's API, whole, as Maven Central has it; its newer versions want Java 21
  local version=2.6.13.Final fresh copy=org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy
  local place=$bin/apicurio-$version-1
  for tool in mvn java tar; do
    command -v "$tool" >/dev/null || { echo "$tool is missing: it makes apicurio, or give an address, see tests/services/README.md" >&2; return 1; }
  done
  if [ ! -e "$place/run" ]; then
    echo "installing apicurio $version" >&2
    fresh=$(mktemp -d "$bin/.apicurio.XXXXXX")
    if ! (cd "$fresh" && mvn -q -B "$copy" -Dartifact="io.apicurio:apicurio-registry-app:$version:tar.gz:all" \
      -DoutputDirectory="$fresh" -Dmdep.stripVersion=true >&2 && tar xzf ./*.tar.gz && rm ./*.tar.gz); then
      rm -rf "$fresh"
      return 1
    fi
    cat >"$fresh/run" <<RUN
#!/bin/sh
# run HOST:PORT
export QUARKUS_HTTP_HOST="\${1%:*}" QUARKUS_HTTP_PORT="\${1##*:}"
exec java -Xmx384m -jar '$place/apicurio-registry-app-$version-runner.jar'
RUN
    chmod +x "$fresh/run"
    # Somebody else may have been faster: then theirs is as good.
    mv -T "$fresh" "$place" 2>/dev/null || rm -rf "$fresh"
  fi
  echo "$place/run"
}

for program in "$@"; do
  case $program in
    minio) install minio github.com/minio/minio github.com/minio/minio v0.0.0-20250907161309-07c3a429bfed ;;
    versitygw) install versitygw github.com/versity/versitygw github.com/versity/versitygw/cmd/versitygw v1.8.0 ;;
    opensearch | elasticsearch) java_server "$program" ;;
    apicurio) apicurio ;;
    *) echo "unknown service $program, expected minio, versitygw, opensearch, elasticsearch or apicurio" >&2; exit 2 ;;
  esac
done
