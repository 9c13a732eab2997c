#!/bin/sh
# A private Redis on a free port of the loopback address: redis.sh PORT
#
# REDIS_OPTIONS in the environment are more options of its command line.
#
# Reads commands, one a line: `start` starts the server and prints `ready PID`, `kill` kills it at once, `pause`
# and `resume` let it stand still. When standard input ends, however that comes about, the server is killed and
# its folder removed, so that nothing outlives a test that was killed.
set -u
port=$1
folder=$(mktemp -d "${TMPDIR:-/tmp}/roomcast-redis.XXXXXX") || exit 1
pid=

gone() {
  if [ -z "$pid" ]; then return; fi
  kill -KILL "$pid" 2>/dev/null
  wait "$pid" 2>/dev/null
  pid=
}
trap 'gone; rm -rf "$folder"' EXIT
trap 'exit 1' INT TERM

start() {
  # shellcheck disable=SC2086 # They are several.
  redis-server --port "$port" --bind 127.0.0.1 --dir "$folder" --save '' --appendonly no ${REDIS_OPTIONS:-} \
    --logfile "$folder/log" </dev/null >/dev/null 2>&1 &
  pid=$!
  until [ "$(redis-cli -p "$port" ping 2>/dev/null)" = PONG ]; do
    if ! kill -0 "$pid" 2>/dev/null; then
      cat "$folder/log" >&2
      echo failed
      return
    fi
    sleep 0.05
  done
  echo "ready $pid"
}

while read -r command; do
  case $command in
    start) start ;;
    kill) gone; echo killed ;;
    pause) kill -STOP "$pid"; echo paused ;;
    resume) kill -CONT "$pid"; echo resumed ;;
    *) echo "unknown: $command" ;;
  esac
done
