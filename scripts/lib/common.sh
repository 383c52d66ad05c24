# shellcheck shell=bash
# shellcheck disable=SC2034 # what is found is set for the script that sources this
# What every script here uses: messages, children, free ports, times.
# Sourced, never run. Keeps to bash 3.2, which is what macOS ships.

REPO_ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)

say() { printf '%s\n' "$*" >&2; }

die() {
  say "error: $*"
  exit 1
}

have() { command -v "$1" >/dev/null 2>&1; }

# --- children ---------------------------------------------------------------

# Becomes the command, and has the kernel send it SIGNAL if the script that
# started it is killed outright and no trap gets to run. Linux only; elsewhere
# the traps have to do.
exec_tied() {
  local signal=$1
  shift
  if setpriv --help 2>/dev/null | grep -q -e --pdeathsig; then
    exec setpriv --pdeathsig "$signal" -- "$@"
  fi
  exec "$@"
}

# Job control is what gives a background command a process group of its own.
# These leave it as it was, for a shell that sources this file.
groups_on() {
  case $- in
    *m*) GROUPS_WERE=on ;;
    *) GROUPS_WERE=off && set -m ;;
  esac
}

groups_back() { if [[ $GROUPS_WERE == off ]]; then set +m; fi; }

# The process group that `run` waits for, so that a trap can end it.
RUNNING_CHILD=

# Runs a command in a process group of its own and waits. A signal then reaches
# this script at once, not when the command is done, and ending the group leaves
# none of its descendants behind.
run() {
  local status=0
  groups_on
  exec_tied TERM "$@" </dev/null &
  RUNNING_CHILD=$!
  groups_back
  wait "$RUNNING_CHILD" || status=$?
  RUNNING_CHILD=
  return "$status"
}

# Like `run`, but ends the command after so many seconds and then returns 124.
run_bounded() {
  local seconds=$1 status=0 deadline
  shift
  groups_on
  exec_tied TERM "$@" </dev/null &
  RUNNING_CHILD=$!
  groups_back
  deadline=$((SECONDS + seconds))
  while kill -0 "$RUNNING_CHILD" 2>/dev/null; do
    if ((SECONDS >= deadline)); then
      stop_running_child
      return 124
    fi
    sleep 0.1
  done
  wait "$RUNNING_CHILD" || status=$?
  RUNNING_CHILD=
  return "$status"
}

stop_running_child() {
  [[ -n $RUNNING_CHILD ]] || return 0
  local child=$RUNNING_CHILD
  RUNNING_CHILD=
  kill -TERM -- "-$child" 2>/dev/null || true
  wait_gone "$child" 20 || kill -KILL -- "-$child" 2>/dev/null || true
  wait "$child" 2>/dev/null || true
}

# Waits until a process of ours has ended, at most so many seconds.
wait_gone() {
  local pid=$1 deadline=$((SECONDS + $2))
  while kill -0 "$pid" 2>/dev/null; do
    ((SECONDS < deadline)) || return 1
    sleep 0.1
  done
}

# Signals one process by its id, waits for it, and kills it when it will not go.
# Returns 1 when it had to be killed.
stop_pid() {
  local pid=$1 signal=$2 seconds=$3 status=0
  kill -s "$signal" "$pid" 2>/dev/null || true
  if ! wait_gone "$pid" "$seconds"; then
    kill -KILL "$pid" 2>/dev/null || true
    status=1
  fi
  wait "$pid" 2>/dev/null || true
  return "$status"
}

# The process and everything below it, one id a line.
process_tree() {
  ps -A -o pid= -o ppid= | awk -v root="$1" '
    { parent[$1] = $2 }
    END {
      for (pid in parent) {
        above = pid
        while (above in parent && above != root && above > 1) above = parent[above]
        if (above == root) print pid
      }
    }'
}

# --- ports ------------------------------------------------------------------

# Ports are taken from below the range the kernel hands out by itself, so that
# no outgoing connection and no test that binds port 0 can come by one. A link
# per port keeps two checkouts apart between the choice and the bind; whoever
# binds a port still has to try another when that fails.
PORT_LINKS=${REELMILL_PORT_LINKS:-/tmp/reelmill-port}
TAKEN_PORTS=

port_answers() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

# Sets FREE_PORT. Not printed: a subshell could not remember what it took.
take_port() {
  local try port owner
  for ((try = 0; try < 200; try++)); do
    port=$((20000 + RANDOM % 12000))
    owner=$(readlink "$PORT_LINKS-$port" 2>/dev/null || true)
    if [[ -n $owner ]] && ! kill -0 "$owner" 2>/dev/null; then
      rm -f "$PORT_LINKS-$port" 2>/dev/null || true
    fi
    ln -s "$$" "$PORT_LINKS-$port" 2>/dev/null || continue
    TAKEN_PORTS="$TAKEN_PORTS $port"
    if ! port_answers "$port"; then
      FREE_PORT=$port
      return 0
    fi
  done
  die "no free port was found on the loopback interface"
}

release_ports() {
  local port
  for port in $TAKEN_PORTS; do rm -f "$PORT_LINKS-$port"; done
  TAKEN_PORTS=
}

# --- times ------------------------------------------------------------------

STEP_TIMES=
STEP_TITLE=

# Runs a step under a heading and keeps how long it took. With `set -e` a
# failing step ends the script here.
step() {
  local started=$SECONDS
  STEP_TITLE=$1
  shift
  say ""
  say "== $STEP_TITLE"
  "$@"
  STEP_TIMES="$STEP_TIMES$(printf '%6ds  %s' $((SECONDS - started)) "$STEP_TITLE")"$'\n'
  STEP_TITLE=
}

print_times() {
  say ""
  say "times:"
  printf '%s' "$STEP_TIMES" >&2
  printf '%6ds  %s\n' "$SECONDS" "in all" >&2
}
