# Installs the Autobahn suite and runs it against the release build:
#
#     sh tests/setup/autobahn.sh [CASE…]

set -u
cd "$(dirname "$0")/../.." || exit
. tests/setup/lib.sh
: >"$log"
export PYTHONDONTWRITEBYTECODE=1
folder=$target/autobahn

fail() {
    echo "the Autobahn suite cannot run: $*"
    exit 1
}

# The suite needs Python 2.7, which Debian no longer packages; pyenv can build it.
find_python2() {
    for python2 in "${PYTHON2:-}" python2.7 "$HOME"/.pyenv/versions/2.7*/bin/python; do
        if "$python2" -c 'import ssl, sys, zlib; sys.exit(sys.version_info[:2] != (2, 7))' >/dev/null 2>&1; then
            return
        fi
    done
    return 1
}

install_suite() {
    if is_current "$folder/stamp" tests/autobahn/requirements.txt && [ -x "$folder/venv/bin/wstest" ]; then
        return
    fi
    find_python2 || fail "no Python 2.7 found (pyenv install 2.7.18, or set PYTHON2 to one)"
    ensure_python3_packages "$folder/tools" tests/autobahn/virtualenv.txt || fail "$why"
    echo "installing tests/autobahn/requirements.txt (pip)"
    rm -rf "$folder/venv"
    logged "$folder/tools/bin/virtualenv" --no-download -p "$(command -v "$python2")" "$folder/venv" ||
        fail "virtualenv failed, see $log"
    logged "$folder/venv/bin/python" -m pip install --disable-pip-version-check -r tests/autobahn/requirements.txt ||
        fail "pip install -r tests/autobahn/requirements.txt failed, see $log"
    checksum tests/autobahn/requirements.txt >"$folder/stamp"
}

mkdir -p "$folder"
install_suite
if [ -z "${WSCAST_BIN:-}" ]; then
    cargo build --release --locked || exit
    WSCAST_BIN=$target/release/wscast
fi
export WSCAST_BIN
exec python3 tests/autobahn/run.py "$folder" "$@"
