# Counts what passed and failed, and prints the summary: minutes of each part, the slowest tests, and
# the causes of failures. Sourced by tests/run.

passed=0
failed=0
summary=()
causes=()
minutes=()

# count NAME PASSED FAILED: adds one line to the summary.
count() {
  passed=$((passed + $2))
  failed=$((failed + $3))
  summary+=("$(printf '%-40s %5d passed %5d failed' "$1" "$2" "$3")")
}

# log_of NAME: prints the path of the log of NAME.
log_of() { echo "$logs/${1// /-}.log"; }

# logged NAME COMMAND…: runs it with its output on the terminal and in its log. Returns its status.
logged() {
  local name=$1
  shift
  printf '\n=== %s: %s\n' "$name" "$*"
  "$@" 2>&1 | tee "$(log_of "$name")"
  return "${PIPESTATUS[0]}"
}

# blame NAME: keeps the failed tests in the log of NAME and their first lines, or its last lines.
blame() {
  local log named
  log=$(log_of "$1")
  # After the lines about a failed test in JavaScript, TAP has its diagnostics as comments.
  named=$(awk '/^---- .* stdout ----$/ { left = 12 } /^ *not ok / { left = 30; comments = 20 }
               /^ *(\.\.\.|type: .suite.)$/ { left = 0 } /^ *(ok |# (Subtest|tests))/ { comments = 0 } /^ *# / && comments-- > 0 { print; next }
               /^ *$|node:internal/ { next } /^test .* FAILED|^(FAIL|ERROR): / || left-- > 0' "$log" | head -n 80)
  causes+=("$(printf -- '--- %s\n%s' "$1" "${named:-$(tail -n 15 "$log")}")")
}

# check NAME COMMAND…: passes or fails as a whole.
check() {
  if logged "$@"; then count "$1" 1 0; else count "$1" 0 1; blame "$1"; fi
}

# counted NAME PARSER COMMAND…: PARSER reads the log and prints how many tests passed, failed and
# were skipped. A command that fails without a failed test, or runs no test, is a failure.
counted() {
  local name=$1 parser=$2 status=0 good=0 bad=0 skipped=0
  shift 2
  logged "$name" "$@" || status=$?
  read -r good bad skipped < <("$parser" "$(log_of "$name")")
  if ((skipped > 0)); then echo "$name: $skipped tests were skipped"; fi
  bad=$((bad + skipped))
  if ((bad == 0 && (status != 0 || good == 0))); then bad=1; fi
  count "$name" "$good" "$bad"
  if ((bad > 0)); then blame "$name"; fi
}

# beside NAME COMMAND…: starts it while what follows runs.
declare -A beside_pids=()
beside() {
  local name=$1
  shift
  "$@" >"$(log_of "beside $name")" 2>&1 </dev/null &
  beside_pids[$name]=$!
}

# counted_beside NAME PARSER: waits for what `beside` started as NAME, then as `counted`.
counted_beside() {
  local status=0
  wait "${beside_pids[$1]}" || status=$?
  counted "$1" "$2" replay "$(log_of "beside $1")" "$status"
}

# replay LOG STATUS: prints what a command has printed, and returns its status.
replay() {
  cat "$1" && rm "$1"
  return "$2"
}

# require NAME COMMAND…: a preparation. If it fails, the part NAME has failed.
require() {
  if logged "$@"; then return 0; fi
  count "$1" 0 1
  blame "$1"
  return 1
}

parse_cargo() { awk '/^test result:/ { p += $4; f += $6; s += $8 } END { print p + 0, f + 0, s + 0 }' "$1"; }
parse_node() { awk '/^(#|ℹ) pass / { p += $3 } /^(#|ℹ) (fail|cancelled) / { f += $3 } /^(#|ℹ) (skipped|todo) / { s += $3 }
                    END { print p + 0, f + 0, s + 0 }' "$1"; }
parse_python() {
  awk '/^Ran [0-9]+ tests?/ { n += $2 }
       /^(FAILED|OK) \(/ {
         line = $0
         while (match(line, /[a-z ]+=[0-9]+/)) {
           split(substr(line, RSTART, RLENGTH), pair, "=")
           if (pair[1] ~ /skipped|expected failures/ && pair[1] !~ /unexpected/) s += pair[2]; else f += pair[2]
           line = substr(line, RSTART + RLENGTH)
         }
       }
       END { print n - f - s, f + 0, s + 0 }' "$1"
}

# slowest: prints the twenty slowest tests of all logs of this run, in seconds.
slowest() {
  local log
  for log in "$logs"/*.log; do
    awk '
      # libtest with --report-time: test NAME ... ok <1.234s>
      /^test .* <[0-9.]+s>$/ { time = $NF; gsub(/[<>s]/, "", time); print time, $2; next }
      # TAP of node: the line of a test, then its duration and whether it is a suite
      /^ *(not )?ok [0-9]+ - / { name = $0; sub(/^ *(not )?ok [0-9]+ - /, "", name); is_suite = 0; ms = "" }
      /^ *duration_ms: / { ms = $2 }
      /^ *type: .suite./ { is_suite = 1 }
      /^ *\.\.\.$/ { if (ms != "" && !is_suite) print ms / 1000, name; ms = "" }
    ' "$log"
  done | sort -rn | head -n 20 | awk '{ time = $1; $1 = ""; printf "%7.1f s %s\n", time, $0 }'
}

# summarize: prints the summary. Returns whether all passed.
summarize() {
  printf '\n=== summary (logs in %s)\n' "$logs"
  printf '%s\n' "${summary[@]}"
  printf '\n=== minutes of each part\n'
  printf '%s\n' "${minutes[@]}"
  printf '\n=== the slowest twenty tests\n'
  slowest
  if ((failed > 0)); then printf '\n=== what failed\n'; printf '%s\n' "${causes[@]}"; fi
  printf '%d passed, %d failed\n' "$passed" "$failed"
  ((failed == 0))
}
