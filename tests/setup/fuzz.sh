# Fuzzes the targets of tests/fuzz, all or those that are named:
#
#     sh tests/setup/fuzz.sh [TARGET…]
#
# Each begins with its seeds and with what earlier runs have put into tests/fuzz/corpus, lasts FUZZ_SECONDS
# (60), and is guided by the code that it reaches, which "cov" counts. An input that breaks it is left in
# tests/fuzz/artifacts; the program that is named there, given that file, breaks on it again.

set -u
cd "$(dirname "$0")/../.." || exit
. tests/setup/lib.sh

folder=tests/fuzz
seconds=${FUZZ_SECONDS:-60}
# More than any input needs: a head that is one byte too large, and a parser that takes its time.
input_bytes_max=20000
input_seconds_max=10
memory_mib_max=1024

if ! cpp_here; then
    echo "cannot fuzz: $why"
    exit 1
fi

# What cargo-fuzz asks of a nightly compiler, but for the sanitizers: a counter for each edge, and the
# operands of comparisons. The target is named so that build scripts are built without.
host=$(rustc -vV | sed -n 's/^host: //p')
coverage=-Cllvm-args=-sanitizer-coverage
RUSTFLAGS="-Cpasses=sancov-module $coverage-level=4 $coverage-inline-8bit-counters $coverage-pc-table \
$coverage-trace-compares" cargo build --release --locked --manifest-path $folder/Cargo.toml \
    --target-dir "$target/fuzz" --target "$host" || exit

[ $# -gt 0 ] || set -- $(sed -n 's/^path = "targets\/\(.*\)\.rs"/\1/p' $folder/Cargo.toml)
status=0
for name in "$@"; do
    program=$target/fuzz/$host/release/$name
    log=$target/fuzz/$name.log
    echo "$name: $seconds s, log in $log"
    mkdir -p "$folder/corpus/$name" "$folder/artifacts/$name"
    if "$program" -max_total_time="$seconds" -max_len=$input_bytes_max -timeout=$input_seconds_max \
        -rss_limit_mb=$memory_mib_max -artifact_prefix="$folder/artifacts/$name/" \
        "$folder/corpus/$name" "$folder/seeds/$name" >"$log" 2>&1; then
        grep -E 'INITED|DONE' "$log"
    else
        status=1
        # Not what it was fed before, of which there may be much.
        grep -vE '^#[0-9]' "$log" | tail -n 60
        echo "FAILED $name; again: $program FILE"
    fi
done
exit $status
