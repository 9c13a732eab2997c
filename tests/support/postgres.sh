#!/bin/sh
# A private PostgreSQL on a free port of the loopback address: postgres.sh PORT [FSYNC [FILES]]
#
# FSYNC is `on` or `off`. FILES is a folder that may have server.crt, server.key, pg_hba.conf, and extra.conf
# with more settings.
#
# Reads commands, one a line: `start` starts the server and prints `ready PID`, `kill` kills it as a
# power failure would, `stop` stops it at once. When standard input ends, however that comes about,
# the server is stopped and its folder removed, so that nothing outlives a test that was killed.
#
# TEST_POSTGRES in the environment is a folder with the programs of another version.
set -u
port=$1
fsync=${2:-off}
found=$(command -v postgres || true)
for candidate in /usr/lib/postgresql/*/bin/postgres; do
  if [ -x "$candidate" ]; then found=$candidate; fi
done
clients=$(dirname "$(readlink -f "$found")")
if [ -n "${TEST_POSTGRES:-}" ]; then found=$TEST_POSTGRES/postgres; fi
if [ -z "$found" ]; then
  echo "no PostgreSQL: install the Debian package postgresql" >&2
  exit 1
fi
bin=$(dirname "$(readlink -f "$found")")
# Tests need little; what is measured has what a server of its own would have.
buffers=32MB wal=1GB
if [ "$fsync" = on ]; then buffers=1GB wal=8GB; fi
# It refuses to run as root.
as() { "$@"; }
user=
if [ "$(id -u)" = 0 ]; then
  as() { runuser -u postgres -- "$@"; }
  user='setpriv --reuid=postgres --regid=postgres --init-groups'
fi
folder=$(cd / && as mktemp -d "${TMPDIR:-/tmp}/roomcast-postgres.XXXXXX") || exit 1
cd "$folder" || exit 1
pid=

gone() {
  if [ -z "$pid" ]; then return; fi
  kill "-$1" "$pid" 2>/dev/null
  kill -CONT "$pid" 2>/dev/null
  wait "$pid" 2>/dev/null
  pid=
}

# Nothing in between: what is stopped and killed is the server itself, and none of our input.
launch() {
  $user "$bin/postgres" -D "$folder/data" -p "$port" </dev/null >>"$folder/log" 2>&1 &
  pid=$!
}

start() {
  launch
  for _ in $(seq 1 1200); do
    # After a kill the last processes of the old server may still be on their way out.
    kill -0 "$pid" 2>/dev/null || launch
    if "$clients/pg_isready" -q -h 127.0.0.1 -p "$port"; then
      echo "ready $pid"
      return
    fi
    sleep 0.05
  done
  echo "PostgreSQL does not start" >&2
  tail -n 20 "$folder/log" >&2
  return 1
}

clean_up() {
  gone QUIT
  rm -rf "$folder"
}
trap clean_up EXIT
trap 'exit 1' HUP INT TERM

as "$bin/initdb" -D "$folder/data" -U roomcast --auth=trust --encoding=UTF8 --locale=C.UTF-8 \
  --no-sync >"$folder/initdb.log" 2>&1 || { cat "$folder/initdb.log" >&2; exit 1; }
# A killed server loses nothing without fsync as long as the machine lives.
as tee -a "$folder/data/postgresql.conf" >/dev/null <<CONF
listen_addresses = '127.0.0.1'
unix_socket_directories = '$folder'
fsync = $fsync
max_connections = 300
shared_buffers = $buffers
max_wal_size = $wal
log_min_messages = warning
restart_after_crash = on
CONF
if [ -n "${3:-}" ]; then
  for name in server.crt server.key pg_hba.conf; do
    if [ -f "$3/$name" ]; then as sh -c "umask 077; cat >'$folder/data/$name'" <"$3/$name"; fi
  done
  if [ -f "$3/extra.conf" ]; then as tee -a "$folder/data/postgresql.conf" <"$3/extra.conf" >/dev/null; fi
fi
while read -r command; do
  case $command in
    start) start || exit 1 ;;
    kill) gone KILL && echo killed ;;
    stop) gone QUIT && echo stopped ;;
  esac
done
