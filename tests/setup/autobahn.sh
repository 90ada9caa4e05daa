# Sets up the Autobahn suite and runs it against the release build: sh tests/setup/autobahn.sh [CASE…]

set -u
cd "$(dirname "$0")/../.." || exit
. tests/setup/lib.sh
: >"$log"
export PYTHONDONTWRITEBYTECODE=1
folder=$target/autobahn

missing() {
    echo "the Autobahn suite cannot be run: $*"
    exit 1
}

# The suite runs on Python 2.7 only, which Debian no longer has; pyenv builds it.
find_python2() {
    for python2 in "${PYTHON2:-}" python2.7 "$HOME"/.pyenv/versions/2.7*/bin/python; do
        if "$python2" -c 'import ssl, sys, zlib; sys.exit(sys.version_info[:2] != (2, 7))' >/dev/null 2>&1; then
            return
        fi
    done
    return 1
}

suite() {
    if fresh "$folder/stamp" tests/autobahn/requirements.txt && [ -x "$folder/venv/bin/wstest" ]; then
        return
    fi
    find_python2 || missing "no Python 2.7 found (pyenv install 2.7.18, or name one in PYTHON2)"
    python3_packages "$folder/tools" tests/autobahn/virtualenv.txt || missing "$why"
    echo "installing tests/autobahn/requirements.txt (pip)"
    rm -rf "$folder/venv"
    logged "$folder/tools/bin/virtualenv" --no-download -p "$(command -v "$python2")" "$folder/venv" ||
        missing "virtualenv failed, see $log"
    logged "$folder/venv/bin/python" -m pip install --disable-pip-version-check -r tests/autobahn/requirements.txt ||
        missing "pip install -r tests/autobahn/requirements.txt failed, see $log"
    stamp "$folder/stamp" tests/autobahn/requirements.txt >"$folder/stamp"
}

mkdir -p "$folder"
suite
if [ -z "${WSCAST_BIN:-}" ]; then
    cargo build --release --locked || exit
    WSCAST_BIN=$target/release/wscast
fi
export WSCAST_BIN
exec python3 tests/autobahn/run.py "$folder" "$@"
