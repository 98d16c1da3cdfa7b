#!/usr/bin/env bash
# Installs the servers that the tests run against, from the Go module proxy, Maven Central and PyPI, into a cache folder outside the
# checkout.
#   install.sh minio versitygw     installs what is missing, prints the path of each (2 cores: 190 s and 85 s of CPU)
#   install.sh opensearch elasticsearch       (20 s and 15 s, 53 and 43 MB)
#   install.sh opensearch3                    OpenSearch 3, with Java 21 or newer (60 s, 71 MB)
#   install.sh apicurio                       (15 s, 140 MB)
#   install.sh moto                           from PyPI (20 s, 140 MB)
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

jdk() { # VERSION: the programs of a Java that is no older
  local home version
  for home in "${JAVA_HOME:-}" "$(dirname "$(dirname "$(readlink -f "$(command -v javac)")")")" /usr/lib/jvm/*; do
    version=$("$home/bin/javac" -version 2>/dev/null | tr -dc '0-9.' | cut -d. -f1)
    if [ "${version:-0}" -ge "$1" ]; then echo "$home/bin"; return; fi
  done
  echo "Java $1 or newer is missing, with its javac: set JAVA_HOME, or give an address, see tests/services/README.md" >&2
  return 1
}

java_server() { # PROGRAM JAVA: a folder beside this script with what Maven is to fetch, and a Server.java, or that of the one before
  local program=$1 from=$here/$1 server=$here/${1%3}/Server.java digest fresh java
  command -v mvn >/dev/null || { echo "mvn is missing: it makes $program, or give an address, see tests/services/README.md" >&2; return 1; }
  java=$(jdk "$2") || return 1
  digest=$(cat "$from/pom.xml" "$server" "${BASH_SOURCE[0]}" | sha256sum | cut -c1-12)
  if [ ! -e "$bin/$program-$digest/run" ]; then
    echo "installing $program" >&2
    fresh=$(mktemp -d "$bin/.$program.XXXXXX")
    if ! fetch_java "$program" "$java" "$server" "$fresh" "$bin/$program-$digest" >&2; then
      rm -rf "$fresh"
      return 1
    fi
    # Somebody else may have been faster: then theirs is as good.
    mv -T "$fresh" "$bin/$program-$digest" 2>/dev/null || rm -rf "$fresh"
  fi
  echo "$bin/$program-$digest/run"
}

fetch_java() { # PROGRAM JAVA SERVER FOLDER PLACE: fills FOLDER, which will stand at PLACE
  local program=$1 java=$2 server=$3 folder=$4 place=$5
  local copy=org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy-dependencies
  mvn -q -B -f "$here/$program/pom.xml" "$copy" -DoutputDirectory="$folder/lib" -DincludeScope=runtime || return 1
  mkdir -p "$folder/home/config" "$folder/home/plugins" "$folder/home/modules"
  if [ "$program" = elasticsearch ]; then netty_module "$folder" || return 1; fi
  "$java/javac" -cp "$folder/lib/*" -d "$folder/classes" "$server" || return 1
  cat >"$folder/run" <<RUN
#!/bin/sh
exec '$java/java' -Xms512m -Xmx512m -Dhome='$place/home' -cp '$place/classes:$place/lib/*' Server "\$@"
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

moto() { # Amazon's API as Python knows it: the one S3 server from a registry that keeps objects' ACLs
  local version=5.2.5 fresh place=$bin/moto-5.2.5
  command -v python3 >/dev/null || { echo "python3 is missing: it runs moto (https://python.org), or give an address, see tests/services/README.md" >&2; return 1; }
  if [ ! -e "$place/run" ]; then
    echo "installing moto $version" >&2
    # Moved into place whole; nothing in it but its programs' first lines knows where it was made, and those are not used.
    fresh=$(mktemp -d "$bin/.moto.XXXXXX")
    if ! { python3 -m venv "$fresh" && "$fresh/bin/pip" install -q --disable-pip-version-check "moto[s3]==$version" \
      flask==3.1.3 flask-cors==6.0.5; } >&2; then
      rm -rf "$fresh"
      return 1
    fi
    cat >"$fresh/run" <<RUN
#!/bin/sh
# run HOST:PORT
exec '$place/bin/python' -m moto.server -H "\${1%:*}" -p "\${1##*:}"
RUN
    chmod +x "$fresh/run"
    mv -T "$fresh" "$place" 2>/dev/null || rm -rf "$fresh"
  fi
  echo "$place/run"
}

for program in "$@"; do
  case $program in
    minio) install minio github.com/minio/minio github.com/minio/minio v0.0.0-20250907161309-07c3a429bfed ;;
    versitygw) install versitygw github.com/versity/versitygw github.com/versity/versitygw/cmd/versitygw v1.8.0 ;;
    opensearch | elasticsearch) java_server "$program" 17 ;;
    opensearch3) java_server "$program" 21 ;;
    apicurio) apicurio ;;
    moto) moto ;;
    *) echo "unknown service $program, expected minio, versitygw, opensearch, opensearch3, elasticsearch, apicurio or moto" >&2; exit 2 ;;
  esac
done
