# Prints one line if Rust is missing, too old for Cargo.toml's rust-version or without a linker, and
# nothing if all is well.

wanted=$(sed -n 's/^rust-version *= *"\([0-9]*\.[0-9]*\).*/\1/p' Cargo.toml)
need="wscast needs Rust $wanted or newer, see https://rustup.rs"

if ! command -v cargo >/dev/null; then
    echo "$need (cargo not found)"
    exit
fi
found=$(cargo --version 2>/dev/null | sed -n 's/^cargo \([0-9]*\.[0-9]*\).*/\1/p')
if [ -z "$found" ]; then
    echo "$need (cargo is here, but 'cargo --version' fails)"
elif [ "${found%.*}" -lt "${wanted%.*}" ] ||
    { [ "${found%.*}" -eq "${wanted%.*}" ] && [ "${found#*.}" -lt "${wanted#*.}" ]; }; then
    echo "$need (found $found)"
elif ! command -v cc >/dev/null && ! command -v gcc >/dev/null && ! command -v clang >/dev/null; then
    echo "wscast needs a C compiler, which Rust links with (cc not found): apt-get install gcc libc6-dev"
fi
