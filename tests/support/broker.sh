# What scripts have in common that start a private server; they define `run`, which becomes the server, and
# `is_ready`.
#
# Reads commands, one a line: `start` starts the server and prints `ready PID`, `kill` kills it at once, `pause`
# and `resume` let it stand still. When standard input ends, however that comes about, the server is killed and
# its folder removed, so that nothing outlives a test that was killed.
#
# Its folder is in memory where that has two GiB to spare: beside a build that writes to the same
# disk, a new table or stream can wait for seconds.
memory=$(df --output=avail -k /dev/shm 2>/dev/null | tail -n 1)
place=${TMPDIR:-/tmp}
if [ "${memory:-0}" -gt 2097152 ] && [ -w /dev/shm ]; then place=/dev/shm; fi
folder=$(mktemp -d "$place/roomcast-broker.XXXXXX") || exit 1
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
  rm -f "$folder/log"
  run </dev/null >/dev/null 2>&1 &
  pid=$!
  until is_ready; do
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
