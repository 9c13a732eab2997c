#!/bin/sh
# A private pooler in session mode on a free port of the loopback address: pgbouncer.sh PORT
#
# OPTIONS in the environment is the port of the PostgreSQL behind it.
#
# Commands on standard input: see broker.sh.
set -u
port=$1
PATH=$PATH:/usr/sbin

run() {
  # It refuses to run as root.
  user=
  if [ "$(id -u)" = 0 ]; then
    chmod 755 "$folder"
    user='setpriv --reuid=postgres --regid=postgres --init-groups'
  fi
  cat >"$folder/pgbouncer.ini" <<CONF
[databases]
* = host=127.0.0.1 port=$OPTIONS user=roomcast
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = $port
unix_socket_dir =
auth_type = any
pool_mode = session
default_pool_size = 100
max_client_conn = 300
ignore_startup_parameters = extra_float_digits,options
CONF
  # shellcheck disable=SC2086 # They are several.
  exec $user pgbouncer -q "$folder/pgbouncer.ini" >"$folder/log" 2>&1
}

is_ready() { psql -h 127.0.0.1 -p "$port" -U roomcast -d postgres -q -t -c 'SELECT 1' >/dev/null 2>&1; }

. "$(dirname "$0")/broker.sh"
