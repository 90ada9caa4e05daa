# What the set-up scripts share. A function that cannot do its work returns 1 and says in $why, in a few
# words, what is missing; the whole story is in $log.

target=${CARGO_TARGET_DIR:-target}
mkdir -p "$target"
target=$(cd "$target" && pwd)
log=$target/setup.log
why=

# have COMMAND: it is on the PATH.
have() {
    command -v "$1" >/dev/null 2>&1
}

# logged COMMAND…: runs it with its output in the log only.
logged() {
    echo "+ $*" >>"$log"
    "$@" >>"$log" 2>&1 </dev/null
}

# debian PACKAGE…: installs Debian packages.
debian() {
    if ! have apt-get; then
        why="$* not found, and there is no apt-get to install it with"
        return 1
    elif [ "$(id -u)" -ne 0 ]; then
        why="$* not found, and only root may apt-get install it"
        return 1
    fi
    echo "installing $* (apt-get)"
    if [ -z "${apt_updated:-}" ]; then
        logged apt-get update
        apt_updated=yes
    fi
    logged env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$@" && return
    why="apt-get install $* failed, see $log"
    return 1
}

# fresh STAMP FILE…: the stamp was made of these files as they are now.
fresh() {
    [ -f "$1" ] && [ "$(cat "$1")" = "$(stamp "$@")" ]
}

# stamp STAMP FILE…: what the stamp says of these files.
stamp() {
    shift
    cat "$@" | cksum
}

# openssl_here: there is the command that makes certificates.
openssl_here() {
    have openssl || debian openssl
}

# cpp_here: there is a C++ compiler, which libFuzzer takes.
cpp_here() {
    have "${CXX:-c++}" || debian g++
}

# python3_here: there is a Python that runs the tests.
python3_here() {
    have python3 || debian python3 || return
    python3 -c 'import sys; sys.exit(sys.version_info < (3, 9))' && return
    why="Python 3.9 or newer is needed, found $(python3 --version 2>&1)"
    return 1
}

# python3_packages FOLDER REQUIREMENTS: a virtual environment that has them.
python3_packages() {
    python3_here || return
    if fresh "$1/stamp" "$2" && "$1/bin/python" --version >/dev/null 2>&1; then
        return
    fi
    rm -rf "$1"
    echo "installing $2 (pip)"
    if ! logged python3 -m venv "$1"; then
        # Debian keeps what venv needs in a package of its own.
        debian python3-venv || return
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
    stamp "$1/stamp" "$2" >"$1/stamp"
}

# node_here: there are a Node and an npm that run the tests.
node_here() {
    have node || debian nodejs || return
    have npm || debian npm || return
    if ! node -e '
        const [major, minor] = process.versions.node.split(".").map(Number);
        process.exit(major > 20 || (major === 20 && minor >= 18) ? 0 : 1);
    '; then
        why="Node 20.18 or newer is needed, found $(node --version 2>&1)"
        return 1
    fi
}

# node_packages FOLDER SOURCE: FOLDER/node_modules has what SOURCE/package-lock.json says.
node_packages() {
    node_here || return
    if fresh "$1/stamp" "$2/package.json" "$2/package-lock.json"; then
        return
    fi
    echo "installing $2/package.json (npm)"
    rm -rf "$1"
    mkdir -p "$1"
    cp "$2/package.json" "$2/package-lock.json" "$1"
    # Nothing that a package would run or download while it is installed is needed.
    if ! (cd "$1" && logged npm ci --ignore-scripts --no-audit --no-fund); then
        why="npm ci for $2 failed, see $log"
        return 1
    fi
    stamp "$1/stamp" "$2/package.json" "$2/package-lock.json" >"$1/stamp"
}

# redis_here: there is a Redis that the tests start. Debian's redis-tools has the server under another name, and
# without the service that redis-server would start.
redis_here() {
    have redis-server || have redis-check-rdb || have valkey-server || debian redis-tools
}

# browser_here: sets $browser to a Chromium or Chrome that starts.
browser_here() {
    find_browser && return
    debian chromium || return
    find_browser && return
    why="no Chromium that starts was found"
    return 1
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
