# Fails with one line of explanation if Rust is missing, is older than `rust-version` in Cargo.toml or has no
# linker. The linker is installed where this script runs as root on Debian.

set -u
cd "$(dirname "$0")/../.." || exit
. tests/setup/lib.sh

fail() {
    echo "$*" >&2
    exit 1
}

wanted=$(sed -n 's/^rust-version *= *"\([0-9]*\.[0-9]*\).*/\1/p' Cargo.toml)
need="wscast needs Rust $wanted or newer, see https://rustup.rs"

have cargo || fail "$need (cargo not found)"
found=$(cargo --version 2>/dev/null | sed -n 's/^cargo \([0-9]*\.[0-9]*\).*/\1/p')
[ -n "$found" ] || fail "$need ('cargo --version' fails)"
if [ "${found%.*}" -lt "${wanted%.*}" ] ||
    { [ "${found%.*}" -eq "${wanted%.*}" ] && [ "${found#*.}" -lt "${wanted#*.}" ]; }; then
    fail "$need (found $found)"
fi
ensure_c_compiler || fail "wscast needs a C compiler, which Rust links with ($why)"
