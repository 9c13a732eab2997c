# The parts of the tests. Sourced by tests/run, which lists them.

# Rust tests that belong to the tier `full`: storms, soaks, leaks, random cases by the million, messages of
# compilers, suites that repeat one promise on further brokers, and two that repeat a promise for each table or
# grant of PostgreSQL. Each is a part of a test's path.
readonly full_rust=(
  a_million_numbers a_million_addresses ten_thousand hostile::storms leave_nothing leave_no_memory invalid_code_fails
  cluster::redis_cluster cluster::nats_cluster
  repeating_it_on_postgres each_documented_grant_is_needed
)

# Files of JavaScript tests that belong to the tier `full`, without `.test.mjs`.
readonly full_interop=(alerts chat_brokers chat_gaps chat_wires chat_tls faults channels_faults cluster_faults streamed_faults rolling)

# The tests of the page in Chromium that are in the default tier; all others are in `pages`.
readonly smoke_pages=(browser page page_entering)

# A part that takes more than a tenth of its tier has the reason above it.

# In `ci` and `full`, not in the default tier: Clippy checks all that the tests compile by itself, which takes as long as
# the tests of a part.
part_lints() {
  require 'rust toolchain' toolchain || return
  check 'lock files' lock_files
  check 'format' cargo fmt --all --check
  check 'lints' cargo clippy --workspace --all-targets -- -D warnings
  # What the README's first command builds, which has fewer features than the tests.
  check 'default features' cargo clippy -p roomcast-server -- -D warnings
}

# All of the default tier is compiled at once, so that what it needs can be installed at the same time.
part_build() {
  require 'rust toolchain' toolchain || return
  install_ahead >"$logs/ahead.log" 2>&1 &
  check 'build' cargo_tests --no-run
  wait
}

# 2,400 tests. Those of the program need 250 s of processor time, because each starts a server: they kill it,
# suspend it, or read its metrics and its log. The tests of the library's server run beside them, because they wait
# for timeouts that are tested as such, at the shortest times that a loaded machine keeps.
part_rust() {
  require 'rust toolchain' toolchain || return
  brokers || return
  require 'certificate authority' authority || return
  require 'openssl' packages 'openssl version' openssl || return
  beside "tests of the library's server" cargo_tests --test server -- "${full_rust[@]/#/--skip=}"
  TESTS_BESIDE=server counted 'rust tests' parse_cargo cargo_tests -- "${full_rust[@]/#/--skip=}"
  counted_beside "tests of the library's server" parse_cargo
}

# The tests of all packages, with dependencies that have the features of the programs that `servers` builds, so that
# both share what is compiled. The package left out needs others, and has its test in `features`.
cargo_tests() { cargo test --workspace --exclude roomcast-public-api-tests --no-fail-fast "$@"; }

part_rust_full() {
  require 'rust toolchain' toolchain || return
  brokers || return
  # Storms need both cores, so few of them run at a time (tests/runner/test-binary doubles this).
  RUST_TEST_THREADS=$(($(nproc) * 3 / 2)) counted 'rust tests of full' parse_cargo cargo_tests -- "${full_rust[@]}"
}

# Random numbers and addresses by the million are left to `rust`: they took over a third of the
# processor time of this tier.
part_quick() {
  require 'rust toolchain' toolchain || return
  check 'format' cargo fmt --all --check
  check 'lints' cargo clippy -p roomcast-protocol -p roomcast -p roomcast-server -- -D warnings
  counted 'unit tests' parse_cargo cargo test -p roomcast-protocol -p roomcast -p roomcast-server --lib --no-fail-fast -- --skip a_million
  counted 'protocol' parse_cargo cargo test -p roomcast-protocol -p roomcast --no-fail-fast --test codec --test frames --test layers --test conformance -- --skip a_million
  require 'servers' servers || return
  require 'interop packages' node_packages tests/interop || return
  counted 'official client and chat' parse_node node_tests tests/interop/{suite,chat}.test.mjs
}

part_features() {
  require 'rust toolchain' toolchain || return
  check 'features' features
  check 'package' packages_of_the_library
  RUSTDOCFLAGS='-D warnings' check 'documentation' cargo doc --workspace --no-deps
}

part_server_features() {
  require 'rust toolchain' toolchain || return
  check 'server features' server_features
  check 'missing features' missing_features
}

part_web() {
  require 'web packages' node_packages web || return
  counted 'web' parse_node npm test --prefix web
}

# 1,000 tests with two versions of the official client over each transport, and with Node servers in one cluster
# with ours.
part_interop() {
  local files=() file
  require 'rust toolchain' toolchain || return
  require 'servers' servers || return
  check 'shipped binary' shipped_binary
  interop_programs || return
  require 'systemd' systemd_checks || return
  require 'python packages' python_packages || return
  require 'python packages of Socket.IO 2' python_v4_packages || return
  for file in tests/interop/{,client/}*.test.mjs; do
    is_full "$file" || files+=("$file")
  done
  beside 'python client' "$tools/python/bin/python" -m unittest discover -v -s tests/interop
  beside 'python client of Socket.IO 2' "$tools/python-v4/bin/python" -m unittest discover -v -s tests/interop/eio3_python
  # Suites for several backends run on one here, and on the others in `full`.
  TEST_VARIANTS=first counted 'javascript clients' parse_node node_tests "${files[@]}" tests/install/unit.test.mjs
  counted_beside 'python client' parse_python
  counted_beside 'python client of Socket.IO 2' parse_python
}

# The documentation as it is published. A browser opens its pages, and the programs of the tutorials run.
part_site() {
  page_programs || return
  require 'postgresql' postgresql || return
  require 'yaml' node_packages tests/install || return
  require 'mdbook' book || return
  require 'python' packages 'python3 --version && curl --version' python3 curl || return
  counted 'site' parse_node node --test --test-reporter=tap --test-timeout=900000 tests/site/{site,blocks,tutorials}.mjs
}

# Builds the program as it is shipped, which takes most of the time, and installs it from its package
# and its image. Needs root, as apt in another root does.
part_install() {
  require 'rust toolchain' toolchain || return
  require 'servers' servers || return
  require 'systemd' systemd_checks || return
  interop_programs || return
  require 'release tools' release_tools || return
  require 'schemas' manifest_schemas || return
  require 'debian root' debian_root || return
  require 'shipped program' deploy/dist || return
  # One after the other, because each builds packages.
  counted 'install' parse_node node --test --test-reporter=tap --test-timeout=900000 --test-concurrency=1 \
    tests/install/{manifests,release,package,container,walk}.test.mjs
}

# Short runs of `rolling` and `faults`, on each broker one after the other, because each needs both cores.
# `chat_gaps` alone has ten minutes of waiting, all at the same time: it promises that outages of up to 60 s are
# survived.
part_interop_full() {
  require 'rust toolchain' toolchain || return
  require 'servers' servers || return
  interop_programs || return
  # Fewer than by default, because some of these files need a core for themselves.
  local files=("${full_interop[@]/#/tests/interop/}") files_at_once=$(($(nproc) + 1))
  counted 'javascript clients of full' parse_node node_tests "${files[@]/%/.test.mjs}"
}

part_backends() {
  require 'rust toolchain' toolchain || return
  require 'servers' servers || return
  interop_programs || return
  local files=() files_at_once=$(($(nproc) + 1))
  mapfile -t files < <(grep -l 'from "./variants.mjs"' tests/interop/*.test.mjs)
  TEST_VARIANTS=others counted 'further backends' parse_node node_tests "${files[@]}"
  # The client in Rust against the official server, by the tests that it passes against ours.
  # Each test starts a Node process, so fewer run at a time.
  RUST_TEST_THREADS=$(($(nproc) * 2)) TEST_SERVER_CLIENT_SUITE="node $PWD/tests/interop/client_suite.mjs" \
    counted 'rust client' parse_cargo cargo test -p roomcast --test client --no-fail-fast
  if require 'python packages' python_packages; then
    counted 'random requests' parse_python "$tools/python/bin/python" -m unittest discover -v -s tests/interop -p 'random_*.py'
  fi
}

# is_full FILE: whether a file of JavaScript tests is in the tier `full`.
is_full() {
  local name=${1#tests/interop/}
  [[ " ${full_interop[*]} " == *" ${name%.test.mjs} "* ]]
}

node_tests() { node --test --test-reporter=tap --test-timeout=900000 --test-concurrency="${files_at_once:-$node_concurrency}" "$@"; }

interop_programs() {
  require 'openssl' packages 'openssl version' openssl || return
  require 'proxies' proxies || return
  require 'pgbouncer' pooler || return
  require 'prometheus and alertmanager' monitoring || return
  brokers || return
  require 'chromium' chromium_browser || return
  require 'interop packages' node_packages tests/interop && require 'client package' client_package
}

brokers() { require 'postgresql' postgresql && require 'redis' redis && require 'nats' nats; }

# A browser is started for each file, and people type at their own pace.
part_browser() {
  page_programs || return
  # At one size and in one colour scheme; `pages` has the others.
  TEST_VARIANTS=first page_concurrency=2 counted 'browser' parse_node page_tests "${smoke_pages[@]}"
}

# Each state of the page is checked at two sizes and in two colour schemes, one file at a time, because a browser
# needs both cores.
part_pages() {
  page_programs || return
  counted 'pages' parse_node page_tests page_texts page_access page_bounds page_faulty page_kept page_leaving page_view \
    page_invites page_figures page_trading
}

# What people do, from start to end, in Chromium and Firefox.
part_journeys() {
  page_programs || return
  require 'firefox' firefox_browser || return
  require 'python packages' python_packages || return
  counted 'journeys' parse_node page_tests page_rooms page_keys page_reading page_reactions page_sessions page_forms \
    page_prices page_search page_streams page_coach
}

part_further_pages() {
  page_programs || return
  require 'firefox' firefox_browser || return
  counted 'further pages' parse_node page_tests page_firefox page_dashboard page_dashboard_sockets page_drill_down \
    page_diagnosis page_channels admin_ui page_notifications page_status page_marks origins client/tabs client/channel_tabs
  TEST_VARIANTS=others counted 'further sizes and colours' parse_node page_tests page page_entering
}

page_programs() {
  require 'rust toolchain' toolchain || return
  require 'chromium' chromium_browser || return
  require 'servers' servers || return
  require 'interop packages' node_packages tests/interop && require 'client package' client_package
}

page_tests() {
  local files=("${@/#/tests/interop/}")
  node --test --test-reporter=tap --test-timeout=900000 --test-concurrency="${page_concurrency:-1}" "${files[@]/%/.mjs}"
}

# Faults at random need time: ten minutes for the store, and ten for each broker, with messages, with channels and
# with texts that grow.
part_faults() {
  require 'rust toolchain' toolchain || return
  require 'servers' servers || return
  require 'proxies' proxies || return
  brokers || return
  require 'interop packages' node_packages tests/interop || return
  FAULTS_SECONDS="${FAULTS_SECONDS:-600}" counted 'faults' parse_node \
    node --test --test-reporter=tap --test-concurrency=1 tests/interop/{,channels_,cluster_,streamed_}faults.test.mjs
}

# Builds an older version, and replaces nodes at the pace that the documentation promises to clients.
part_rolling() {
  require 'rust toolchain' toolchain || return
  require 'servers' servers || return
  require 'older server' older_server || return
  require 'proxies' proxies || return
  brokers || return
  export ROLLING_ADAPTER="${ROLLING_ADAPTER:-postgres}"
  require 'interop packages' node_packages tests/interop || return
  ulimit -n 16384
  ROLLING_OLD="$CARGO_TARGET_DIR/older/target/debug/roomcast" \
    counted 'rolling' parse_node node --test --test-reporter=tap --test-concurrency=1 tests/interop/rolling.test.mjs
}

part_versions() {
  local version
  require 'rust toolchain' toolchain || return
  # Their clients and tools serve every version.
  require 'postgresql' postgresql || return
  require 'redis' redis || return
  require 'other versions' other_versions || return
  for version in postgres-13 postgres-18; do
    TEST_POSTGRES="$tools/versions/node_modules/$version/native/bin" counted "store on $version" parse_cargo \
      cargo test -p roomcast-server --test backends --no-fail-fast -- --skip sqlite --skip memory
    TEST_POSTGRES="$tools/versions/node_modules/$version/native/bin" counted "adapter on $version" parse_cargo \
      cargo test -p roomcast --test server --no-fail-fast -- cluster::postgres cluster::sealed
  done
  PATH="$tools/versions/bin:$PATH" counted 'adapters on newest brokers' parse_cargo \
    cargo test -p roomcast --test server --no-fail-fast -- cluster::redis cluster::streams cluster::nats cluster::sealed
}

# Each target is built with sanitizers, in a profile of their own, and runs for ten seconds. With FUZZ_HALF, these are
# every second one.
part_fuzz() {
  require 'rust toolchain' toolchain || return
  require 'cargo-fuzz' fuzzer || return
  # The targets need unstable compiler flags; RUSTC_BOOTSTRAP lets the stable compiler take them.
  export RUSTC_BOOTSTRAP=1
  local target targets
  targets=$(cargo fuzz list) || { count 'fuzz targets' 0 1; return; }
  if [ -n "${FUZZ_HALF:-}" ]; then targets=$(awk -v half="$FUZZ_HALF" 'NR % 2 == half' <<<"$targets"); fi
  for target in $targets; do
    # The first build takes most of the time. A target that does not build counts as failed.
    require "fuzz build" cargo fuzz build "$target" || return
    check "fuzz $target" fuzz_target "$target"
  done
  unset RUSTC_BOOTSTRAP
}

# Ten seconds, starting from the seeds. Findings stay in the target directory.
fuzz_target() {
  local corpus="$CARGO_TARGET_DIR/fuzz-corpus/$1"
  mkdir -p "$corpus"
  cargo fuzz run "$1" "$corpus" "fuzz/seeds/$1" -- -max_total_time=10 -timeout=10 -verbosity=0 -print_funcs=0 -rss_limit_mb=1024
}

part_deny() {
  require 'cargo-deny' denier || return
  check 'deny' cargo deny check bans licenses sources
}

# The versions that are built are those that the lock files name.
lock_files() {
  local manifest
  for manifest in Cargo.toml fuzz/Cargo.toml; do
    cargo metadata --locked --format-version 1 --manifest-path "$manifest" >/dev/null || return 1
  done
}

# The library alone, without features and with each of them, since features unify where the server is
# built beside it. Nothing is unused anywhere, and no link of the documentation leads to what a feature
# would have to bring. docs.rs builds it with an unstable feature. The public API is that of its snapshot.
features() {
  local set
  RUSTDOC="$PWD/tests/runner/rustdoc" RUSTDOCFLAGS='--cfg docsrs -D warnings' \
    cargo doc -p roomcast-protocol -p roomcast --no-deps --all-features || return 1
  cargo test -p roomcast-public-api-tests --test public_api || return 1
  RUSTDOCFLAGS='-D warnings' cargo doc -p roomcast --no-deps || return 1
  for set in '' axum client client-tls client-webpki-roots forwarding msgpack nats postgres redis tls; do
    cargo clippy -p roomcast --lib --features "$set" -- -D warnings || return 1
  done
}

# The server with each of its parts, without its tests, which depend on it with all features.
server_features() {
  local set
  for set in '' sqlite postgres nats html schemas 'acme otlp jemalloc'; do
    cargo clippy -p roomcast-server --lib --bins --no-default-features --features "$set" -- -D warnings || return 1
  done
}

# The program of `cargo run` refuses what only other builds can do, naming the feature.
missing_features() {
  local folder="$CARGO_TARGET_DIR/tests/missing" feature settings said
  mkdir -p "$folder"
  cargo build -p roomcast-server --bin roomcast || return 1
  cp "$CARGO_TARGET_DIR/debug/roomcast" "$folder/roomcast"
  # The other parts use the program with all features.
  cargo build -p roomcast-server --bin roomcast --all-features || return 1
  echo '{}' >"$folder/order.json"
  printf '[channels.orders]\npattern = "orders:{order}"\nfollow = ["anyone"]\nevents = { changed = "order.json" }\n' \
    >"$folder/roomcast.toml"
  cat >"$folder/acme.toml" <<ACME
[server.tls]
names = ["localhost"]
redirect_listen = "127.0.0.1:8080"
cert_file = "new.crt"
key_file = "new.key"
[server.acme]
url = "https://127.0.0.1/directory"
agree_to_terms = true
account_file = "account.json"
ACME
  while read -r feature settings; do
    # shellcheck disable=SC2086 # These are words without spaces.
    said=$(cd "$folder" && env $settings ./roomcast check-config 2>&1) && return 1
    echo "$said"
    case $said in *"feature \`$feature\`"*) ;; *) return 1 ;; esac
  done <<SETTINGS
otlp ROOMCAST_OTLP__URL=http://127.0.0.1:4318
acme ROOMCAST_CONFIG=acme.toml
html ROOMCAST_CHAT__CONTENT=html
nats ROOMCAST_ADAPTER__URL=nats://127.0.0.1:4222
schemas ROOMCAST_CONFIG=roomcast.toml
SETTINGS
}

# What would be published builds by itself, from what its manifest includes. Cargo keeps what it has
# unpacked and compiled by version, and the version of a package in development does not change.
packages_of_the_library() {
  local folder="$CARGO_TARGET_DIR/packages"
  rm -rf "$folder/package" "$folder"/debug/.fingerprint/roomcast* \
    "${CARGO_HOME:-$HOME/.cargo}"/registry/src/-*/roomcast-protocol-*
  cargo package -p roomcast-protocol -p roomcast --allow-dirty --target-dir "$folder"
}

# What is shipped: a binary that runs by itself, and symbols beside it by which it is read.
shipped_binary() {
  local folder="$CARGO_TARGET_DIR/tests/dist" main
  deploy/dist "$folder" "$CARGO_TARGET_DIR/debug/roomcast" || return 1
  "$folder/roomcast" --version || return 1
  main=$(nm --demangle "$folder/roomcast.debug" | awk '/ roomcast::main$/ { print $1; exit }')
  addr2line --exe "$folder/roomcast" "$main" | grep 'server/src/main.rs:'
}
