# Functions that the set-up scripts share. An `ensure_…` function installs what is missing where it can.
# When it cannot, it returns 1 and sets $why to a short reason; the full output is in $log.

target=${CARGO_TARGET_DIR:-target}
mkdir -p "$target"
target=$(cd "$target" && pwd)
log=$target/setup.log
why=

# RUSTFLAGS for a static program with glibc. getrandom would open /dev/urandom, which an empty folder does not have,
# because a static program cannot look the system call's function up.
static_glibc_flags='-Ctarget-feature=+crt-static --cfg getrandom_backend="linux_getrandom"'

# have COMMAND: succeeds if the command is on the PATH.
have() {
    command -v "$1" >/dev/null 2>&1
}

# logged COMMAND…: runs a command and writes its output to the log only.
logged() {
    echo "+ $*" >>"$log"
    "$@" >>"$log" 2>&1 </dev/null
}

# install_debian PACKAGE…: installs Debian packages.
install_debian() {
    if ! have apt-get; then
        why="$* not found, and there is no apt-get to install it with"
        return 1
    elif [ "$(id -u)" -ne 0 ]; then
        why="$* not found, and only root can install it: apt-get install $*"
        return 1
    fi
    # To stderr, because the output of some callers is read by a program.
    echo "installing $* (apt-get)" >&2
    if [ -z "${apt_updated:-}" ]; then
        logged apt-get update
        apt_updated=yes
    fi
    logged env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$@" && return
    why="apt-get install $* failed, see $log"
    return 1
}

# is_current STAMP FILE…: succeeds if the stamp was written for the present content of the files.
is_current() {
    stamp=$1
    shift
    [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$(checksum "$@")" ]
}

# checksum FILE…: prints one checksum of the files, which is the content of a stamp.
checksum() {
    cat "$@" | cksum
}

# ensure_c_compiler: Rust links with it, and SQLite and ring are compiled with it.
ensure_c_compiler() {
    have cc || have gcc || have clang || install_debian gcc libc6-dev
}

# ensure_cpp_compiler: libFuzzer is compiled with it.
ensure_cpp_compiler() {
    have "${CXX:-c++}" || install_debian g++
}

# ensure_openssl: the tests make their certificates with this command.
ensure_openssl() {
    have openssl || install_debian openssl
}

ensure_python3() {
    have python3 || install_debian python3 || return
    python3 -c 'import sys; sys.exit(sys.version_info < (3, 9))' && return
    why="Python 3.9 or newer is needed, found $(python3 --version 2>&1)"
    return 1
}

# ensure_python3_packages FOLDER REQUIREMENTS: makes a virtual environment with these packages.
ensure_python3_packages() {
    ensure_python3 || return
    if is_current "$1/stamp" "$2" && "$1/bin/python" --version >/dev/null 2>&1; then
        return
    fi
    rm -rf "$1"
    echo "installing $2 (pip)"
    if ! logged python3 -m venv "$1"; then
        # Debian has the files that venv needs in a separate package.
        install_debian python3-venv || return
        rm -rf "$1"
        if ! logged python3 -m venv "$1"; then
            why="python3 -m venv failed, see $log"
            return 1
        fi
    fi
    if ! logged "$1/bin/python" -m pip install --disable-pip-version-check -r "$2"; then
        why="pip install -r $2 failed, see $log"
        return 1
    fi
    checksum "$2" >"$1/stamp"
}

ensure_node() {
    have node || install_debian nodejs || return
    have npm || install_debian npm || return
    if ! node -e '
        const [major, minor] = process.versions.node.split(".").map(Number);
        process.exit(major > 20 || (major === 20 && minor >= 18) ? 0 : 1);
    '; then
        why="Node 20.18 or newer is needed, found $(node --version 2>&1)"
        return 1
    fi
}

# ensure_node_packages FOLDER SOURCE: installs the packages of SOURCE/package-lock.json below FOLDER.
ensure_node_packages() {
    ensure_node || return
    if is_current "$1/stamp" "$2/package.json" "$2/package-lock.json"; then
        return
    fi
    echo "installing $2/package.json (npm)"
    rm -rf "$1"
    mkdir -p "$1"
    cp "$2/package.json" "$2/package-lock.json" "$1"
    # No package here needs its install script.
    if ! (cd "$1" && logged npm ci --ignore-scripts --no-audit --no-fund); then
        why="npm ci for $2 failed, see $log"
        return 1
    fi
    checksum "$2/package.json" "$2/package-lock.json" >"$1/stamp"
}

# ensure_redis: the tests start their own server. Debian's redis-tools has it under the name redis-check-rdb;
# the package redis-server would also start a system service.
ensure_redis() {
    have redis-server || have redis-check-rdb || have valkey-server || install_debian redis-tools
}

# ensure_faketime: the library with which tests set the clock of a process.
ensure_faketime() {
    ls /usr/lib/*/faketime/libfaketimeMT.so.1 >/dev/null 2>&1 || install_debian libfaketime
}

# ensure_nginx: the tests start their own nginx, with Debian's stream module.
ensure_nginx() {
    if have nginx || [ -x /usr/sbin/nginx ]; then
        # Debian's nginx may be there without the module, which is a package of its own.
        if [ -d /usr/lib/nginx/modules ] && ! [ -e /usr/lib/nginx/modules/ngx_stream_module.so ]; then
            install_debian libnginx-mod-stream
        fi
        return
    fi
    install_debian nginx-light libnginx-mod-stream || return
    # The package also starts nginx as a system service, which the tests do not use.
    if have systemctl && [ -d /run/systemd/system ]; then
        logged systemctl disable --now nginx
    fi
}

# ensure_haproxy, ensure_caddy: the tests start their own.
ensure_haproxy() {
    have haproxy || [ -x /usr/sbin/haproxy ] || install_debian_stopped haproxy
}
ensure_caddy() {
    have caddy || install_debian_stopped caddy
}

# install_debian_stopped SERVICE: installs a package, and stops the system service that it starts.
install_debian_stopped() {
    install_debian "$1" || return
    if have systemctl && [ -d /run/systemd/system ]; then
        logged systemctl disable --now "$1"
    fi
}

# ensure_browser: sets $browser to a Chromium or Chrome that starts.
ensure_browser() {
    find_browser && return
    install_debian chromium || return
    find_browser && return
    why="no Chromium that starts was found"
    return 1
}

# ensure_firefox: the tests start Debian's Firefox, or the one that $FIREFOX names.
ensure_firefox() {
    [ -n "${FIREFOX:-}" ] || have firefox-esr || install_debian firefox-esr
}

# ensure_chinese_font: without one, a browser draws boxes.
ensure_chinese_font() {
    have fc-list && [ -n "$(fc-list :lang=zh)" ] || install_debian fontconfig fonts-wqy-microhei
}

find_browser() {
    for browser in "${CHROMIUM:-}" chromium google-chrome-stable google-chrome chromium-browser chrome; do
        if [ -n "$browser" ] && "$browser" --version >/dev/null 2>&1; then
            browser=$(command -v "$browser")
            return
        fi
    done
    return 1
}
