#!/bin/sh
# keep.sh RUN FOLDER COMMAND…: runs a server while the process RUN lives, then ends it and removes its folder.
# When the server ends first, its folder stays, with its log.
run=$1 folder=$2
shift 2
"$@" >"$folder/log" 2>&1 </dev/null &
server=$!
trap 'kill "$server" 2>/dev/null' TERM INT
while kill -0 "$run" 2>/dev/null; do
  kill -0 "$server" 2>/dev/null || exit 1
  sleep 0.3
done
kill "$server" 2>/dev/null
for _ in 1 2 3 4 5 6 7 8 9 10; do
  kill -0 "$server" 2>/dev/null || break
  sleep 0.3
done
kill -9 "$server" 2>/dev/null
rm -rf "$folder" "$folder.lock"
# The folder of the run itself, once its last server is gone.
rmdir "$(dirname "$folder")" 2>/dev/null || true
