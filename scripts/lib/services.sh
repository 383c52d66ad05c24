# shellcheck shell=bash
# A private PostgreSQL and a private RabbitMQ for tests: on free loopback ports,
# with everything they write in one directory, and gone when the script is.
# Sourced after common.sh and install.sh; scripts/with-services is the short way
# to run one command against them.
#
# The starting functions must not be called in a subshell: they set variables,
# and on Linux the servers end with the process that started them.

SERVICES_DIR=
POSTGRES_PID=
RABBITMQ_PID=
EPMD_PID=

# PostgreSQL will not run as root. Root needs an account to give it to, and a
# directory which that account may enter.
postgres_user() {
  local user
  for user in postgres nobody; do
    if id "$user" >/dev/null 2>&1; then
      echo "$user"
      return 0
    fi
  done
  die "running as root needs an account postgres or nobody for PostgreSQL"
}

# Becomes the command as the account that PostgreSQL runs under.
exec_as_postgres() {
  cd "$SERVICES_DIR" || exit
  if [[ $(id -u) -ne 0 ]]; then exec_tied INT "$@"; fi
  local user group
  user=$(postgres_user)
  group=$(id -g "$user")
  have setpriv || die "running as root needs setpriv (util-linux): please run this as a normal user"
  # --pdeathsig comes after the change of user, which would clear it.
  exec setpriv --reuid "$user" --regid "$group" --init-groups --pdeathsig INT -- "$@"
}

# Makes the directory for everything below, in the first place where the
# account of PostgreSQL can work too.
services_dir() {
  local base
  for base in "${TMPDIR:-/tmp}" /tmp /var/tmp; do
    [[ -d $base && -w $base ]] || continue
    SERVICES_DIR=$(mktemp -d "$base/reelmill.XXXXXX") || continue
    chmod 711 "$SERVICES_DIR"
    if (exec_as_postgres test -x "$SERVICES_DIR") 2>/dev/null; then return 0; fi
    rm -rf "$SERVICES_DIR"
  done
  die "no temporary directory can be used: tried ${TMPDIR:-/tmp}, /tmp and /var/tmp"
}

# --- PostgreSQL -------------------------------------------------------------

# Sets REELMILL_TEST_DATABASE_URL to a superuser's URL.
start_postgres() {
  local dir=$SERVICES_DIR/postgres
  make_cluster "$dir"
  for _ in 1 2 3 4 5; do
    take_port
    launch_postgres "$dir" "$FREE_PORT"
    if postgres_ready "$FREE_PORT" "$dir.log"; then
      export REELMILL_TEST_DATABASE_URL="postgres://postgres@127.0.0.1:$FREE_PORT/postgres"
      return 0
    fi
    stop_postgres
    grep -q 'could not bind' "$dir.log" || break
  done
  tail -n 20 "$dir.log" >&2
  die "the private PostgreSQL did not start"
}

make_cluster() {
  local dir=$1
  mkdir -m 700 "$dir"
  if [[ $(id -u) -eq 0 ]]; then chown "$(postgres_user)" "$dir"; fi
  if ! (exec_as_postgres "$PG_BIN/initdb" --no-sync -E UTF8 --locale=C -A trust -U postgres \
    -D "$dir") >"$dir.log" 2>&1; then
    tail -n 20 "$dir.log" >&2
    die "initdb failed"
  fi
}

launch_postgres() {
  local dir=$1 port=$2
  local options=(
    -c listen_addresses=127.0.0.1 -c "port=$port" -c unix_socket_directories=
    -c max_connections=300 -c max_wal_size=4GB -c log_min_messages=warning
    -c timezone=UTC
  )
  # What tests keep is worth nothing after a crash; what a benchmark tells is
  # worth nothing without the cost of durability.
  if [[ -z ${DURABLE:-} ]]; then
    options+=(-c fsync=off -c synchronous_commit=off -c full_page_writes=off)
  fi
  groups_on
  exec_as_postgres "$PG_BIN/postgres" -D "$dir" "${options[@]}" </dev/null >"$dir.log" 2>&1 &
  POSTGRES_PID=$!
  groups_back
}

# The server writes "ready" in the last line of postmaster.pid when it accepts
# connections. Asking the port instead could reach a stranger.
postgres_ready() {
  local port=$1 deadline=$((SECONDS + 60))
  while kill -0 "$POSTGRES_PID" 2>/dev/null && ((SECONDS < deadline)); do
    if grep -qs '^ready' "$SERVICES_DIR/postgres/postmaster.pid" && port_answers "$port"; then
      return 0
    fi
    sleep 0.1
  done
  return 1
}

# SIGINT is PostgreSQL's fast shutdown: it does not wait for clients.
stop_postgres() {
  [[ -n $POSTGRES_PID ]] || return 0
  local pid=$POSTGRES_PID
  POSTGRES_PID=
  stop_pid "$pid" INT 20 || stop_orphans_of_postgres
}

# A killed postmaster's children notice by themselves, within a second or so.
stop_orphans_of_postgres() {
  say "PostgreSQL did not stop in time and was killed"
  sleep 1
}

# --- RabbitMQ ---------------------------------------------------------------

# Sets REELMILL_TEST_AMQP_URL. The account guest may only log in over loopback.
start_rabbitmq() {
  local dir=$SERVICES_DIR/rabbitmq amqp
  mkdir -m 700 "$dir"
  write_rabbitmq_conf "$dir"
  start_epmd "$dir"
  for _ in 1 2 3; do
    take_port
    amqp=$FREE_PORT
    take_port
    launch_rabbitmq "$dir" "$amqp" "$FREE_PORT"
    if rabbitmq_ready "$amqp"; then
      export REELMILL_TEST_AMQP_URL="amqp://guest:guest@127.0.0.1:$amqp/%2f"
      return 0
    fi
    # A taken port shows in many ways. Whatever it was, ports are new each time.
    stop_rabbitmq_node
  done
  tail -n 30 "$dir/rabbitmq.log" >&2
  die "the private RabbitMQ did not start"
}

# The node would start a port mapper by itself, as a daemon that outlives it.
# This one is our child, on a port of its own.
start_epmd() {
  local dir=$1
  for _ in 1 2 3 4 5; do
    take_port
    EPMD_PORT=$FREE_PORT
    groups_on
    exec_tied TERM epmd -port "$EPMD_PORT" -address 127.0.0.1 </dev/null >"$dir/epmd.log" 2>&1 &
    EPMD_PID=$!
    groups_back
    if epmd_ready; then return 0; fi
    stop_epmd
  done
  die "no epmd for the private RabbitMQ: $(tail -n 3 "$dir/epmd.log")"
}

# An epmd that cannot bind ends at once, while whoever has the port may answer.
epmd_ready() {
  local poll
  for ((poll = 0; poll < 50; poll++)); do
    sleep 0.1
    kill -0 "$EPMD_PID" 2>/dev/null || return 1
    if port_answers "$EPMD_PORT"; then
      sleep 0.2
      kill -0 "$EPMD_PID" 2>/dev/null && return 0
      return 1
    fi
  done
  return 1
}

write_rabbitmq_conf() {
  local dir=$1
  # A test machine's disk may be nearly full, and its memory is not the
  # broker's: alarms would block the publishers without any word in a test.
  cat >"$dir/rabbitmq.conf" <<CONF
loopback_users.guest = true
disk_free_limit.absolute = 10MB
vm_memory_high_watermark.relative = 0.6
log.console = true
log.console.level = warning
log.file = false
CONF
  echo '[].' >"$dir/enabled_plugins"
  # Instead of the one in /etc.
  : >"$dir/rabbitmq-env.conf"
}

# Everything that tells a node of this machine's from ours. HOME is where the
# node makes its cookie.
rabbitmq_environment() {
  local dir=$1
  export HOME=$dir
  export ERL_EPMD_PORT=$EPMD_PORT ERL_EPMD_ADDRESS=127.0.0.1
  export RABBITMQ_NODENAME="reelmill-$$@localhost"
  export RABBITMQ_CONF_ENV_FILE=$dir/rabbitmq-env.conf
  export RABBITMQ_CONFIG_FILE=$dir/rabbitmq.conf
  export RABBITMQ_ADVANCED_CONFIG_FILE=$dir/advanced.config
  export RABBITMQ_ENABLED_PLUGINS_FILE=$dir/enabled_plugins
  export RABBITMQ_MNESIA_BASE=$dir/mnesia
  export RABBITMQ_LOG_BASE=$dir/log
  export RABBITMQ_LOGS=-
  export RABBITMQ_PID_FILE=$dir/pid
  export RABBITMQ_GENERATED_CONFIG_DIR=$dir/config
  export RABBITMQ_PLUGINS_EXPAND_DIR=$dir/plugins
  # Has the start script become the node, so that its id is the one to signal.
  export RUNNING_UNDER_SYSTEMD=true
  unset NOTIFY_SOCKET
}

exec_rabbitmq() {
  rabbitmq_environment "$1"
  export RABBITMQ_NODE_IP_ADDRESS=127.0.0.1 RABBITMQ_NODE_PORT=$2 RABBITMQ_DIST_PORT=$3
  # +sbwt none is RabbitMQ's default and stays: no busy waiting on a shared core.
  export RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS="-kernel inet_dist_use_interface {127,0,0,1}"
  cd "$1" || exit
  exec_tied TERM "$RABBITMQ_SERVER"
}

launch_rabbitmq() {
  groups_on
  exec_rabbitmq "$@" </dev/null >"$1/rabbitmq.log" 2>&1 &
  RABBITMQ_PID=$!
  groups_back
}

# Says the protocol's first eight bytes and reads on to the first c, which is in
# the word "capabilities" of the server's first frame. In a subshell, which
# closes the connection.
speaks_amqp() (
  exec 4<>"/dev/tcp/127.0.0.1/$1" || return 1
  printf 'AMQP\000\000\011\001' >&4
  # shellcheck disable=SC2034 # a delimiter, not a variable
  IFS= read -r -t 5 -d c _ <&4
)

rabbitmq_ready() {
  local port=$1 deadline=$((SECONDS + 90))
  while kill -0 "$RABBITMQ_PID" 2>/dev/null && ((SECONDS < deadline)); do
    if speaks_amqp "$port" 2>/dev/null; then return 0; fi
    sleep 0.2
  done
  return 1
}

stop_rabbitmq_node() {
  [[ -n $RABBITMQ_PID ]] || return 0
  local pid=$RABBITMQ_PID
  RABBITMQ_PID=
  stop_pid "$pid" TERM 30 || say "RabbitMQ did not stop in time and was killed"
}

stop_epmd() {
  [[ -n $EPMD_PID ]] || return 0
  local pid=$EPMD_PID
  EPMD_PID=
  stop_pid "$pid" TERM 5 || true
}

# Leaves REELMILL_TEST_AMQP_URL pointing at the port where nobody answers now.
stop_rabbitmq() {
  stop_rabbitmq_node
  stop_epmd
}

# --- both -------------------------------------------------------------------

stop_services() {
  stop_rabbitmq
  stop_postgres
  release_ports
  if [[ -n $SERVICES_DIR ]]; then
    if [[ -n ${REELMILL_KEEP_TMP:-} ]]; then
      say "kept: $SERVICES_DIR"
    else
      rm -rf "$SERVICES_DIR"
    fi
    SERVICES_DIR=
  fi
}
