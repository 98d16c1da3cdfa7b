#!/usr/bin/env bash
# make.sh [DIR] : makes the golden batches anew with Kafka's Java client (default: batches/ beside this script).
# Gzip and Zstandard bytes may change with the JDK or client version; what the descriptions say may not.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
dir=${1:-$here/batches}
mkdir -p "$dir"
"$here/java.sh" make "$dir"
