# Sets up and runs the named parts of the tests, then prints a summary:
#
#     sh tests/setup/test.sh rust redis small fuzz bench python curl proxies node browser docs deploy
#
# A part NAME is two functions: `setup_NAME` installs what the part needs, and `run_NAME` runs its tests. A part
# that cannot be set up is skipped. A single test that cannot run appends "name: reason" to the file that
# $WSCAST_SKIPPED names, and is counted as skipped too. With CI=true every skip is a failure.
#
# WSCAST_BIN names the binary to test. Without it the debug build is made, which the Rust tests run as well.

set -u
cd "$(dirname "$0")/../.." || exit
. tests/setup/lib.sh
: >"$log"
export PYTHONDONTWRITEBYTECODE=1
export WSCAST_SKIPPED="$target/skipped.txt"

# Without the library, the tests that need it are skipped.
setup_rust() { ensure_faketime || :; }
run_rust() {
    limited cargo test --locked --no-fail-fast -- --skip nodes:: --test-threads="$(test_threads)"
}

setup_redis() { ensure_redis && { ensure_faketime || :; }; }
run_redis() {
    limited cargo test --locked --no-fail-fast nodes:: -- --test-threads="$(test_threads)"
}

# The program without SQLite, Redis and TLS: its unit tests, and the scenarios that need none of them. It is linked
# statically, so that it also has to serve in an empty folder. Rust wants --target for that.
setup_small() { ensure_c_compiler && ensure_python3; }
run_small() {
    small_target=$(rustc -vV | sed -n 's/^host: //p')
    export RUSTFLAGS="$static_glibc_flags"
    small_test="limited cargo test --locked --no-default-features --target $small_target --target-dir $target/small"
    # Unquoted: a command with arguments.
    $small_test --lib && $small_test --test it -- $small_scenarios
    small_status=$?
    unset RUSTFLAGS
    [ $small_status -eq 0 ] || return
    limited python3 assets/deploy/release_check.py --no-limits "$target/small/$small_target/debug/wscast"
}
small_scenarios="broadcast:: closing:: commands:: event_streams:: handshake:: healthcheck:: http:: keep_alive:: presence::
    protocol:: rooms:: settings:: shutdown:: slow_consumers:: stats:: sub:: token_rights:: unix_sockets::
    --skip nodes:: --skip new_rooms:: --skip tls --skip certificate --skip across_restarts
    --skip from_disk --skip each_room_resumes --skip kept_on_disk --skip shared_by_nodes"

# The units are valid and keep the program in its sandbox, sockets outlive the server, the Debian package is complete, and
# the files for Compose, Kubernetes, Prometheus, Grafana and fail2ban fit the server.
setup_deploy() {
    have dpkg-deb || install_debian dpkg || return
    have systemd-analyze || install_debian systemd || return
    have bash || install_debian bash || return
    have promtool || install_debian_stopped prometheus || return
    have fail2ban-regex || install_debian_stopped fail2ban || return
    ensure_redis && ensure_python3_packages "$target/deploy-venv" tests/deploy/requirements.txt
}
run_deploy() {
    deploy_files=$target/deploy
    rm -rf "$deploy_files"
    mkdir -p "$deploy_files"
    for unit in wscast wscast@; do
        # The program that a unit names must exist.
        sed "s|/usr/local/bin/wscast|$WSCAST_BIN|" "assets/deploy/$unit.service" >"$deploy_files/$unit.service"
        # The threshold is in tenths of the exposure level, whose worst is 10.
        systemd-analyze verify "$deploy_files/$unit.service" &&
            systemd-analyze security --offline=true --threshold=20 "$deploy_files/$unit.service" >"$deploy_files/security" ||
            return
        tail -n 1 "$deploy_files/security"
    done
    # Beside its service, which it must find.
    cp assets/deploy/wscast.socket "$deploy_files"
    systemd-analyze verify "$deploy_files/wscast.socket" || return
    sh assets/deploy/debian/build.sh "$WSCAST_BIN" amd64 0.0.0 "$deploy_files" || return
    dpkg-deb --contents "$deploy_files/wscast_0.0.0_amd64.deb" >"$deploy_files/contents" || return
    for file in usr/bin/wscast lib/systemd/system/wscast.service lib/systemd/system/wscast.socket \
        lib/systemd/system/wscast@.service; do
        grep -q " ./$file\$" "$deploy_files/contents" || { echo "the package has no $file"; return 1; }
    done
    for tests in tests/deploy/test_*.py; do
        limited "$target/deploy-venv/bin/python" "$tests" -v 2>&1 || return
    done
}

# A short run that proves the targets work; `make fuzz` runs long enough to find something new.
setup_fuzz() { ensure_cpp_compiler; }
run_fuzz() {
    FUZZ_SECONDS=${FUZZ_SECONDS:-6} limited sh tests/setup/fuzz.sh
}

# The bench of other servers, with its floor and wscast only and with few clients. It checks counts and no times.
setup_bench() { ensure_python3; }
run_bench() {
    limited cargo test --locked --bench fanout -- peers --quick --rounds 1 --seconds 0.3 --peers floor,wscast \
        --only handshakes,rooms-closed,stalled,drops-crash,avalanche --json "$target/peers/test.json" || return
    limited python3 tests/bench/peers/page.py "$target/peers/test.json" "$target/peers/test.svg"
}

setup_python() {
    ensure_openssl || return
    ensure_python3_packages "$target/venv" tests/clients/requirements.txt
}
run_python() {
    limited "$target/venv/bin/python" tests/clients/test_python.py -v 2>&1 || return
    limited "$target/venv/bin/python" tests/clients/test_http_clients.py -v 2>&1
}

setup_curl() {
    ensure_python3 && ensure_openssl || return
    have curl || install_debian curl
}
run_curl() {
    limited python3 tests/clients/test_curl.py -v 2>&1
}

setup_proxies() {
    ensure_nginx && ensure_haproxy && ensure_caddy || return
    have bash || install_debian bash || return
    ensure_python3_packages "$target/venv" tests/clients/requirements.txt
}
run_proxies() {
    limited "$target/venv/bin/python" tests/clients/test_proxies.py -v 2>&1
}

setup_node() { ensure_node_packages "$target/clients" tests/clients; }
run_node() {
    CLIENT_MODULES=$target/clients/node_modules node_tests tests/clients/test_*.mjs
}

# Without Firefox, the test that needs it is skipped.
setup_browser() {
    ensure_browser && ensure_openssl || return
    ensure_firefox || :
    ensure_node_packages "$target/browser" tests/browser
}
run_browser() {
    # Two at a time, because most tests wait most of the time.
    BROWSER_MODULES=$target/browser CHROMIUM=$browser node_tests --test-concurrency=2 tests/browser/*.test.mjs
}

# The pages show shell, Python and Node samples, certificates, a database and a Redis.
setup_docs() {
    ensure_openssl && ensure_redis || return
    have curl || install_debian curl || return
    have sqlite3 || install_debian sqlite3 || return
    ensure_python3_packages "$target/venv" tests/clients/requirements.txt || return
    ensure_node_packages "$target/clients" tests/clients
}
run_docs() {
    CLIENT_MODULES=$target/clients/node_modules limited "$target/venv/bin/python" tests/docs/run.py
}

# node_tests FILE…: runs tests with node:test.
node_tests() {
    # A file of its own, because node empties a reporter's file first.
    limited node --test --test-reporter=spec --test-reporter-destination=stdout \
        --test-reporter=./tests/setup/skipped_reporter.mjs --test-reporter-destination="$WSCAST_SKIPPED.node" "$@"
    node_status=$?
    cat "$WSCAST_SKIPPED.node" >>"$WSCAST_SKIPPED"
    rm -f "$WSCAST_SKIPPED.node"
    return $node_status
}

# Prints how many Rust tests run at a time: four on a small machine too, because most of them wait most of the time.
test_threads() {
    cores=$(nproc 2>/dev/null || echo 4)
    [ "$cores" -gt 4 ] || cores=4
    echo "$cores"
}

# limited COMMAND…: in CI, ends a part that hangs. By hand there is no limit, because `timeout` would keep
# Ctrl-C from reaching the command.
limited() {
    if [ "${CI:-}" = true ] && have timeout; then
        timeout -k 10 900 "$@" </dev/null
    else
        "$@" </dev/null
    fi
}

# tested PART: runs a part. In CI its output is printed when it has ended, and kept for the end. A pipe in place of the
# file would also wait for processes that a test has left behind.
tested() {
    if [ "${CI:-}" != true ]; then
        "run_$1"
        return
    fi
    "run_$1" >"$target/$1.output" 2>&1
    part_status=$?
    cat "$target/$1.output"
    return $part_status
}

# build_binary PART…: sets WSCAST_BIN. `cargo test` builds a binary too, with other features of the dependencies
# than `cargo build`, so the parts that run it decide which of the two is built.
build_binary() {
    [ -n "${WSCAST_BIN:-}" ] && return
    case " $* " in
    *" rust "* | *" redis "*) cargo test --locked --no-run ;;
    *) cargo build --locked ;;
    esac || return
    WSCAST_BIN=$target/debug/wscast
}

passed=0 failed=0 skipped=0 summary= failed_parts=
# record OUTCOME TEXT: counts an outcome (passed, FAILED or SKIPPED) and adds a line to the summary.
record() {
    outcome=$1
    if [ "$outcome" = SKIPPED ] && [ "${CI:-}" = true ]; then
        outcome=FAILED
    fi
    case $outcome in
    passed) passed=$((passed + 1)) ;;
    FAILED) failed=$((failed + 1)) ;;
    SKIPPED) skipped=$((skipped + 1)) ;;
    esac
    summary="$summary$outcome $2
"
}

# record_skipped_tests PART: counts the tests of this part that could not run, and prints why.
record_skipped_tests() {
    while IFS= read -r line; do
        echo "SKIPPED $1: $line"
        record SKIPPED "$1: $line"
    done <"$WSCAST_SKIPPED"
}

if ! build_binary "$@"; then
    echo "FAILED build: nothing can be tested"
    echo "0 passed, $# failed, 0 skipped"
    exit 1
fi
export WSCAST_BIN

for part in "$@"; do
    printf '\n--- %s ---\n' "$part"
    began=$(date +%s)
    why=
    : >"$WSCAST_SKIPPED"
    if ! "setup_$part"; then
        echo "SKIPPED $part: $why"
        record SKIPPED "$part: $why"
        continue
    elif tested "$part"; then
        record passed "$part ($(($(date +%s) - began)) s)"
    else
        record FAILED "$part"
        failed_parts="$failed_parts $part"
    fi
    record_skipped_tests "$part"
done

printf '\n%s' "$summary"
echo "$passed passed, $failed failed, $skipped skipped"
# Where only the end of a log is kept, it has the reason.
if [ "${CI:-}" = true ]; then
    for part in $failed_parts; do
        printf '\n--- the end of %s, which failed ---\n' "$part"
        tail -n 30 "$target/$part.output"
    done
fi
[ "$failed" -eq 0 ]
