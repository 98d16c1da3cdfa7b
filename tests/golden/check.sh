#!/usr/bin/env bash
# check.sh DIR : has Kafka's Java client read every DIR/*.bin; fails where it cannot, or reads something else than DIR/*.json says.
set -euo pipefail
exec "$(cd "$(dirname "$0")" && pwd)/java.sh" check "${1:?usage: check.sh DIR}"
