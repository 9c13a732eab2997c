#!/bin/sh
# A private sentinel of Redis on a free port of the loopback address: sentinel.sh PORT
#
# OPTIONS in the environment is the port of the Redis that it calls `main`, which must have a replica; lines behind it
# are more of its configuration.
#
# Commands on standard input: see broker.sh.
set -u
port=$1
password=$(printf '%s\n' "$OPTIONS" | sed -n 's/^requirepass //p')

run() {
  cat >"$folder/sentinel.conf" <<CONFIG
port $port
bind 127.0.0.1
dir $folder
logfile $folder/log
$(printf '%s\n' "$OPTIONS" | tail -n +2)
sentinel monitor main 127.0.0.1 $(printf '%s\n' "$OPTIONS" | head -n 1) 1
sentinel down-after-milliseconds main 5000
sentinel failover-timeout main 5000
CONFIG
  exec redis-server "$folder/sentinel.conf" --sentinel
}

# It has heard of the replica, so that there is somebody to take over.
is_ready() { [ -n "$(redis-cli -p "$port" ${password:+-a "$password" --no-auth-warning} sentinel replicas main 2>/dev/null)" ]; }

. "$(dirname "$0")/broker.sh"
