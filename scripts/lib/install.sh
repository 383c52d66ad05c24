# shellcheck shell=bash
# shellcheck disable=SC2034 # what is found is set for the script that sources this
# Makes sure that tools are there. Each need_* function is quiet when nothing
# is missing, installs what is missing with the system's package manager
# (Debian, Ubuntu: apt; macOS: Homebrew), and otherwise says what to install.
# Sourced after common.sh, never run.

INSTALL_LIB=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

# --- package managers -------------------------------------------------------

package_manager() {
  if have apt-get && [[ -e /etc/debian_version ]]; then
    echo apt
  elif [[ $(uname -s) == Darwin ]] && have brew; then
    echo brew
  else
    echo none
  fi
}

as_root() {
  if [[ $(id -u) -eq 0 ]]; then
    "$@"
  elif have sudo; then
    sudo "$@"
  else
    die "installing packages needs root or sudo"
  fi
}

# A mirror that is busy or a lock that is held passes; a missing package does
# not, but trying that again costs seconds only.
retry() {
  local try log
  log=$(mktemp)
  for try in 1 2 3; do
    if "$@" >"$log" 2>&1; then
      rm -f "$log"
      return 0
    fi
    ((try == 3)) || sleep $((try * 5))
  done
  tail -n 20 "$log" >&2
  rm -f "$log"
  return 1
}

apt_update_once() {
  [[ -z ${REELMILL_APT_UPDATED:-} ]] || return 0
  retry as_root apt-get update -q -o DPkg::Lock::Timeout=600 || return 1
  # Exported: a script called by this one has no need to do it again.
  export REELMILL_APT_UPDATED=1
}

apt_install() {
  apt_update_once &&
    retry as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -q \
      --no-install-recommends -o DPkg::Lock::Timeout=600 "$@"
}

# For packages that would start a service when they are installed.
apt_install_stopped() {
  apt_update_once && retry as_root "$INSTALL_LIB/apt-install-stopped" "$@"
}

brew_install() { HOMEBREW_NO_AUTO_UPDATE=1 retry brew install --quiet "$@"; }

# install_tool NAME APT-PACKAGES BREW-FORMULAE [apt function]
install_tool() {
  local name=$1 apt=$2 brew=$3 apt_with=${4:-apt_install} list=()
  case $(package_manager) in
    apt)
      read -r -a list <<<"$apt"
      say "installing $name (apt: $apt)"
      "$apt_with" "${list[@]}" || die "apt-get could not install $name: $apt"
      ;;
    brew)
      read -r -a list <<<"$brew"
      say "installing $name (Homebrew: $brew)"
      brew_install "${list[@]}" || die "Homebrew could not install $name: $brew"
      ;;
    *) die "$name is missing and there is no package manager known here (apt, Homebrew): please install it" ;;
  esac
  hash -r
}

# --- media ------------------------------------------------------------------

ffmpeg_ok() { have ffmpeg && have ffprobe; }

need_ffmpeg() {
  ffmpeg_ok && return
  install_tool FFmpeg ffmpeg ffmpeg
  ffmpeg_ok || die "ffmpeg and ffprobe are still not on the PATH"
}

# --- services ---------------------------------------------------------------

postgres_dir_ok() { [[ -x $1/initdb && -x $1/postgres && -x $1/pg_ctl ]]; }

# Every place where PostgreSQL's server binaries may be, best first.
postgres_dirs() {
  local dir
  if have initdb; then dirname "$(command -v initdb)"; fi
  if have pg_config; then pg_config --bindir || true; fi
  for dir in /usr/lib/postgresql/*/bin; do echo "$dir"; done | sort -t/ -k5,5nr
  if have brew; then
    for dir in "$(brew --prefix)"/opt/postgresql@*/bin; do echo "$dir"; done | sort -r
    echo "$(brew --prefix)/opt/postgresql/bin"
  fi
}

# Sets PG_BIN.
find_postgres() {
  local dir
  while IFS= read -r dir; do
    if postgres_dir_ok "$dir"; then
      PG_BIN=$dir
      return 0
    fi
  done < <(postgres_dirs)
  return 1
}

need_postgres() {
  find_postgres && return
  install_tool "PostgreSQL's server binaries" postgresql postgresql@17 apt_install_stopped
  find_postgres || die "PostgreSQL's server binaries (initdb, postgres, pg_ctl) are still not found"
}

# Debian's /usr/sbin/rabbitmq-server only works for root and its own account and
# always uses the system's node: the script it wraps does neither.
rabbitmq_servers() {
  local file
  echo /usr/lib/rabbitmq/bin/rabbitmq-server
  for file in /usr/lib/rabbitmq/lib/rabbitmq_server-*/sbin/rabbitmq-server; do echo "$file"; done
  if have brew; then echo "$(brew --prefix)/opt/rabbitmq/sbin/rabbitmq-server"; fi
  command -v rabbitmq-server || true
}

# Sets RABBITMQ_SERVER.
find_rabbitmq() {
  local file
  while IFS= read -r file; do
    if [[ -x $file && $file != /usr/sbin/rabbitmq-server ]]; then
      RABBITMQ_SERVER=$file
      return 0
    fi
  done < <(rabbitmq_servers)
  return 1
}

need_rabbitmq() {
  find_rabbitmq && have epmd && return
  install_tool RabbitMQ rabbitmq-server rabbitmq apt_install_stopped
  find_rabbitmq || die "RabbitMQ's rabbitmq-server is still not found"
  have epmd || die "Erlang's epmd is not on the PATH"
}

# Sets NGINX and REDIS: a cache in front of the apis and one between them, for tests. REELMILL_NGINX and REELMILL_REDIS name other ones.
find_caches() {
  NGINX=$(command -v "${REELMILL_NGINX:-nginx}" || command -v /usr/sbin/nginx) || return 1
  REDIS=$(command -v "${REELMILL_REDIS:-valkey-server}" || command -v redis-server) || return 1
}

need_caches() {
  find_caches && return
  install_tool "nginx and Redis" "nginx-light redis-server" "nginx valkey" apt_install_stopped
  find_caches || die "nginx and redis-server are still not found: name them in REELMILL_NGINX and REELMILL_REDIS"
}

# Sets FAKETIME, a library that gives one process another clock. REELMILL_FAKETIME names another one.
find_faketime() {
  local file
  for file in "${REELMILL_FAKETIME:-}" /usr/lib/*/faketime/libfaketime.so.1; do
    if [[ -r $file ]]; then
      FAKETIME=$file
      return 0
    fi
  done
  return 1
}

# Linux only: elsewhere nothing can be put before a program's libraries.
need_faketime() {
  find_faketime && return
  install_tool libfaketime libfaketime libfaketime
  find_faketime || die "libfaketime is still not found: name libfaketime.so.1 in REELMILL_FAKETIME"
}

# --- cameras ----------------------------------------------------------------

# Sets RTSP_PYTHON, a Python that knows GStreamer's RTSP server: the system's, whose packages it comes in. REELMILL_RTSP_PYTHON names
# another one.
find_rtsp() {
  local candidate
  for candidate in "${REELMILL_RTSP_PYTHON:-}" /usr/bin/python3 python3; do
    [[ -n $candidate ]] && have "$candidate" || continue
    if "$candidate" -c 'import gi; gi.require_version("GstRtspServer", "1.0"); gi.require_version("Gst", "1.0")
from gi.repository import Gst, GstRtspServer
Gst.init(None)
raise SystemExit(not all(Gst.ElementFactory.find(name) for name in ("qtdemux", "rtph264pay")))' 2>/dev/null; then
      RTSP_PYTHON=$candidate
      return 0
    fi
  done
  return 1
}

need_rtsp() {
  find_rtsp && return
  install_tool "GStreamer's RTSP server" \
    "python3-gi gir1.2-gst-rtsp-server-1.0 gstreamer1.0-plugins-base gstreamer1.0-plugins-good" "gst-rtsp-server pygobject3"
  find_rtsp || die "GStreamer's RTSP server is still not found: name a Python that knows it in REELMILL_RTSP_PYTHON"
}

# --- browser ----------------------------------------------------------------

# Sets CHROMIUM, a Chromium or a Chrome. REELMILL_CHROMIUM names another one.
find_chromium() {
  local candidate
  for candidate in "${REELMILL_CHROMIUM:-}" chromium chromium-browser google-chrome google-chrome-stable \
    "/Applications/Chromium.app/Contents/MacOS/Chromium" \
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome"; do
    [[ -n $candidate ]] || continue
    if CHROMIUM=$(command -v "$candidate" 2>/dev/null); then return 0; fi
  done
  return 1
}

need_chromium() {
  find_chromium && return
  # Ubuntu's package of that name is an installer for a snap, which a private
  # user directory under /tmp and a container both rule out.
  if [[ $(package_manager) == apt ]] && grep -qs '^ID=ubuntu' /etc/os-release; then
    die "a browser is missing: please install Google Chrome or Chromium, or name one in REELMILL_CHROMIUM"
  fi
  install_tool Chromium "chromium fonts-liberation" "--cask chromium"
  find_chromium || die "Chromium is still not found: name it in REELMILL_CHROMIUM"
}

# --- languages --------------------------------------------------------------

NODE_OLDEST=18

node_ok() {
  have node && have npm || return 1
  local version
  version=$(node --version) || return 1
  version=${version#v}
  ((${version%%.*} >= NODE_OLDEST))
}

need_node() {
  node_ok && return
  install_tool "Node and npm" "nodejs npm" node
  node_ok || die "Node $NODE_OLDEST or newer is needed, here is $(node --version 2>/dev/null || echo none): please install a newer one"
}

python_ok() {
  have python3 &&
    python3 -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 10))' 2>/dev/null
}

need_python() {
  python_ok && return
  install_tool Python "python3 python3-venv" python3
  python_ok || die "Python 3.10 or newer with venv is needed: please install it"
}

# Rust is only looked for: which toolchain manager to use is the developer's
# choice. The version comes from rust-toolchain.toml.
need_rust() {
  # Where rustup puts it, for a shell that has not read the new profile yet.
  if ! have cargo && [[ -x ${CARGO_HOME:-$HOME/.cargo}/bin/cargo ]]; then
    PATH="${CARGO_HOME:-$HOME/.cargo}/bin:$PATH"
    export PATH
  fi
  have cargo || die "Rust is missing: please install rustup, it then picks the right version by itself"
}

need_nextest() {
  cargo nextest --version >/dev/null 2>&1 && return
  say "installing cargo-nextest (cargo install, some minutes)"
  retry cargo install cargo-nextest --locked || die "cargo could not install cargo-nextest"
}

need_cc() {
  have cc && return
  if [[ $(uname -s) == Darwin ]]; then
    die "a C compiler is missing: please run xcode-select --install"
  fi
  install_tool "a C compiler" build-essential ""
  have cc || die "a C compiler (cc) is still not on the PATH"
}
