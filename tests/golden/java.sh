#!/usr/bin/env bash
# java.sh COMMAND ARGS... : runs Golden.java (or the program that AQUEDUCT_JAVA names) with Kafka's Java client on the class path.
# AQUEDUCT_POM names another list of jars than the client's.
# Needs a JDK of at least 17 and Maven; the jars are fetched once into AQUEDUCT_CACHE (default ~/.cache/aqueduct).
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
pom=${AQUEDUCT_POM:-$here/pom.xml}
lib=${AQUEDUCT_CACHE:-$HOME/.cache/aqueduct}/golden-$(sha256sum "$pom" | cut -c1-12)
if [ ! -d "$lib" ]; then
  # Moved into place whole, so that neither an interrupted nor a concurrent download is taken for the jars.
  mkdir -p "$(dirname "$lib")"
  new=$(mktemp -d "$lib.XXXXXX")
  mvn -q -B -f "$pom" dependency:copy-dependencies -DincludeScope=runtime -DoutputDirectory="$new" >&2
  mv -T "$new" "$lib" 2>/dev/null || rm -rf "$new"
fi
exec java -cp "$lib/*" "${AQUEDUCT_JAVA:-$here/Golden.java}" "$@"
