# Sets up and runs the parts of the tests that are named, and sums them up:
#
#     sh tests/setup/test.sh rust redis fuzz python curl node browser
#
# A part whose tools cannot be had is skipped, but with CI=true it has failed. WSCAST_BIN names the binary
# to test; without it the debug build is made, the one that the Rust tests run too.

set -u
cd "$(dirname "$0")/../.." || exit
. tests/setup/lib.sh
: >"$log"
export PYTHONDONTWRITEBYTECODE=1

ready_rust() { :; }
run_rust() {
    bounded cargo test --locked -- --skip nodes::
}

ready_redis() { redis_here; }
run_redis() {
    bounded cargo test --locked --test it nodes::
}

# A look only: `make fuzz` is what finds something new.
ready_fuzz() { cpp_here; }
run_fuzz() {
    FUZZ_SECONDS=${FUZZ_SECONDS:-6} bounded sh tests/setup/fuzz.sh
}

ready_python() {
    openssl_here || return
    python3_packages "$target/venv" tests/clients/requirements.txt
}
run_python() {
    bounded "$target/venv/bin/python" tests/clients/test_python.py -v 2>&1
}

ready_curl() {
    python3_here && openssl_here || return
    have curl || debian curl
}
run_curl() {
    bounded python3 tests/clients/test_curl.py -v 2>&1
}

ready_node() { node_packages "$target/clients" tests/clients; }
run_node() {
    CLIENT_MODULES=$target/clients/node_modules \
        bounded node --test --test-reporter=spec tests/clients/test_*.mjs
}

ready_browser() {
    browser_here && openssl_here || return
    node_packages "$target/browser" tests/browser
}
run_browser() {
    BROWSER_MODULES=$target/browser CHROMIUM=$browser \
        bounded node --test --test-reporter=spec tests/browser/*.test.mjs
}

# bounded COMMAND…: no part may hang CI. By hand it is not bounded, as it would not see Ctrl-C.
bounded() {
    if [ "${CI:-}" = true ] && have timeout; then
        timeout -k 10 900 "$@" </dev/null
    else
        "$@" </dev/null
    fi
}

# binary PART…: sets WSCAST_BIN. Where the Rust tests are run it is the build they make anyway, which
# differs from plain `cargo build` by the features that development dependencies add.
binary() {
    [ -n "${WSCAST_BIN:-}" ] && return
    case " $* " in
    *" rust "* | *" redis "*) cargo test --locked --no-run ;;
    *) cargo build --locked ;;
    esac || return
    WSCAST_BIN=$target/debug/wscast
}

passed=0 failed=0 skipped=0 summary=
result() {
    summary="$summary$*
"
}

if ! binary "$@"; then
    echo "FAILED build: nothing can be tested"
    echo "0 passed, $# failed, 0 skipped"
    exit 1
fi
export WSCAST_BIN

for part in "$@"; do
    printf '\n--- %s ---\n' "$part"
    why=
    if ! "ready_$part"; then
        if [ "${CI:-}" = true ]; then
            failed=$((failed + 1)) line="FAILED $part: $why"
        else
            skipped=$((skipped + 1)) line="SKIPPED $part: $why"
        fi
        echo "$line"
        result "$line"
    elif "run_$part"; then
        passed=$((passed + 1))
        result "passed $part"
    else
        failed=$((failed + 1))
        result "FAILED $part"
    fi
done

printf '\n%s' "$summary"
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ]
