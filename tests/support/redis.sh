#!/bin/sh
# A private Redis on a free port of the loopback address: redis.sh PORT
#
# OPTIONS in the environment are more options of its command line.
#
# Commands on standard input: see broker.sh.
set -u
port=$1

run() {
  # shellcheck disable=SC2086 # They are several.
  exec redis-server --port "$port" --bind 127.0.0.1 --dir "$folder" --save '' --appendonly no ${OPTIONS:-} \
    --logfile "$folder/log"
}

is_ready() { [ "$(redis-cli -p "$port" ping 2>/dev/null)" = PONG ]; }

. "$(dirname "$0")/broker.sh"
