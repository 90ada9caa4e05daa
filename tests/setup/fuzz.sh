# Fuzzes the named targets of tests/fuzz, or all of them:
#
#     sh tests/setup/fuzz.sh [TARGET…]
#
# Each target runs for FUZZ_SECONDS (default 60). It starts from its seeds and from the inputs that earlier runs
# saved in tests/fuzz/corpus, and prefers inputs that reach new code. An input that breaks the target is saved in
# tests/fuzz/artifacts; run the printed program with that file to repeat the failure. WSCAST_TEST_SEED repeats the
# random choices of a run, as in the Rust tests.

set -u
cd "$(dirname "$0")/../.." || exit
. tests/setup/lib.sh

folder=tests/fuzz
seconds=${FUZZ_SECONDS:-60}
# Larger than any limit that a parser checks.
input_bytes_max=20000
input_seconds_max=10
memory_mib_max=1024

if ! ensure_cpp_compiler; then
    echo "cannot fuzz: $why"
    exit 1
fi

# libFuzzer takes a number of 32 bits, so at most nine digits of it.
seed=$(printf '%s' "${WSCAST_TEST_SEED:-$(od -An -N4 -tu4 /dev/urandom)}" | tr -d ' ' | tail -c 9)
echo "to repeat: WSCAST_TEST_SEED=$seed"

# The same instrumentation as cargo-fuzz, without the sanitizers, which need a nightly compiler: a counter for
# each edge, and the operands of comparisons. Build scripts are not instrumented, because --target is given.
host=$(rustc -vV | sed -n 's/^host: //p')
coverage=-Cllvm-args=-sanitizer-coverage
RUSTFLAGS="-Cpasses=sancov-module $coverage-level=4 $coverage-inline-8bit-counters $coverage-pc-table \
$coverage-trace-compares" cargo build --release --locked --manifest-path $folder/Cargo.toml \
    --target-dir "$target/fuzz" --target "$host" || exit

[ $# -gt 0 ] || set -- $(sed -n 's/^path = "targets\/\(.*\)\.rs"/\1/p' $folder/Cargo.toml)
status=0
for name in "$@"; do
    program=$target/fuzz/$host/release/$name
    output=$target/fuzz/$name.log
    echo "$name: $seconds s, log in $output"
    mkdir -p "$folder/corpus/$name" "$folder/artifacts/$name"
    if "$program" -seed="$seed" -max_total_time="$seconds" -max_len=$input_bytes_max -timeout=$input_seconds_max \
        -rss_limit_mb=$memory_mib_max -artifact_prefix="$folder/artifacts/$name/" \
        "$folder/corpus/$name" "$folder/seeds/$name" >"$output" 2>&1; then
        grep -E 'INITED|DONE' "$output"
    else
        status=1
        # Without libFuzzer's own progress lines.
        grep -vE '^#[0-9]' "$output" | tail -n 60
        echo "FAILED $name; to repeat: $program FILE"
    fi
done
exit $status
