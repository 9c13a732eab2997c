#!/bin/sh
# A private NATS on a free port of the loopback address: nats.sh PORT
#
# OPTIONS in the environment are more options of its command line.
#
# Commands on standard input: see broker.sh.
set -u
port=$1

run() {
  # shellcheck disable=SC2086 # They are several.
  exec nats-server -a 127.0.0.1 -p "$port" -sd "$folder" ${OPTIONS:-} -l "$folder/log"
}

is_ready() { grep -q 'Server is ready' "$folder/log" 2>/dev/null; }

. "$(dirname "$0")/broker.sh"
