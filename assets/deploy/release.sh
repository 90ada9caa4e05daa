# Builds the programs to download, below target/dist:
#
#     sh assets/deploy/release.sh [TARGET…]
#
#   wscast-linux-ARCH         the program with everything, static
#   wscast-small-linux-ARCH   without SQLite, Redis and TLS
#   wscast_VERSION_ARCH.deb   a Debian package with the unit and a user
#   SHA256SUMS
#
# Zig, which pip installs below target/, compiles C and links for each target. Rust's standard library for the target
# comes from `rustup target add`. Without rustup it is compiled from the source in Debian's packages rustc-web, cargo-web and
# rust-web-src (rustc and rust-src are too old). If neither can be had for this machine's own target, the target with
# glibc stands in, which is linked statically too.
#
# The exit code is 1 if a target could not be built; the others are built all the same.

set -u
cd "$(dirname "$0")/../.." || exit
. tests/setup/lib.sh

dist=$target/dist
version=$(sed -n 's/^version *= *"\(.*\)"/\1/p' Cargo.toml | head -n 1)
host=$(rustc -vV | sed -n 's/^host: //p')
rust_min=$(sed -n 's/^rust-version *= *"\(.*\)"/\1/p' Cargo.toml)
failed=0
missing() {
    echo "not built: $*" >&2
    failed=1
}

# Leaves out parts of SQLite that wscast does not use: half a MiB.
export LIBSQLITE3_FLAGS="-USQLITE_ENABLE_FTS3 -USQLITE_ENABLE_FTS3_PARENTHESIS -USQLITE_ENABLE_FTS5 -USQLITE_ENABLE_RTREE
    -USQLITE_ENABLE_STAT4 -USQLITE_ENABLE_DBSTAT_VTAB -USQLITE_ENABLE_COLUMN_METADATA -USQLITE_ENABLE_LOAD_EXTENSION
    -USQLITE_SOUNDEX -DSQLITE_OMIT_LOAD_EXTENSION -DSQLITE_OMIT_DEPRECATED -DSQLITE_OMIT_SHARED_CACHE -DSQLITE_OMIT_JSON
    -DSQLITE_OMIT_PROGRESS_CALLBACK -DSQLITE_OMIT_AUTHORIZATION -DSQLITE_OMIT_TRACE -DSQLITE_OMIT_GET_TABLE
    -DSQLITE_OMIT_TCL_VARIABLE -DSQLITE_OMIT_COMPLETE"

# arch_of TARGET: the name in the files, which is also Docker's platform.
arch_of() {
    case $1 in
    x86_64-*) echo amd64 ;;
    aarch64-*) echo arm64 ;;
    armv7-*) echo armv7 ;;
    *) return 1 ;;
    esac
}

# ensure_zigbuild: cargo-zigbuild and Zig, on the PATH or below target/.
ensure_zigbuild() {
    have cargo-zigbuild && { have zig || python3 -c 'import ziglang' 2>/dev/null; } && return
    ensure_python3_packages "$target/zig" assets/deploy/release-requirements.txt || return
    PATH=$target/zig/bin:$PATH
}

# ensure_library TARGET: Rust's standard library of the target, compiled, from rustup.
ensure_library() {
    [ -d "$(rustc --print sysroot)/lib/rustlib/$1/lib" ] && return
    why="Rust's standard library is missing; install rustup, then run: rustup target add $1"
    have rustup || return
    echo "installing Rust's standard library for $1 (rustup)" >&2
    logged rustup target add "$1" && return
    why="Rust's standard library is missing; run: rustup target add $1"
    return 1
}

# ensure_library_source: Debian's Rust with the source of its library, new enough for wscast.
ensure_library_source() {
    if [ ! -e "$debian_source" ]; then
        why_rustup=$why
        install_debian rustc-web cargo-web rust-web-src || {
            why="$why_rustup; or install Debian's rustc-web cargo-web rust-web-src"
            return 1
        }
    fi
    found=$(/usr/bin/rustc --version | cut -d ' ' -f 2)
    [ "$(printf '%s\n' "$rust_min" "$found" | sort -V | head -n 1)" = "$rust_min" ] && return
    why="Rust's standard library is missing; run: rustup target add $1 (Debian's Rust is $found, wscast needs $rust_min)"
    return 1
}
debian_source=/usr/lib/rustlib/src/rust/library/std

# prepare TARGET: sets $cargo, the command that builds for it, or sets $why.
prepare() {
    unset RUSTFLAGS
    case $1 in
    *-gnu)
        cargo="cargo build"
        export RUSTFLAGS="$static_glibc_flags"
        ensure_c_compiler
        return
        ;;
    esac
    ensure_zigbuild || {
        why="the linker is missing; run: pip install cargo-zigbuild ziglang ($why)"
        return 1
    }
    cargo="cargo zigbuild"
    ensure_library "$1" && return
    ensure_library_source "$1" || return
    # Unstable in Cargo, but without rustup the only way to the library. Debian has no start files of musl; Zig has.
    cargo="env CARGO=/usr/bin/cargo RUSTC=/usr/bin/rustc RUSTC_BOOTSTRAP=1 cargo-zigbuild zigbuild -Zbuild-std=std,panic_unwind"
    export RUSTFLAGS=-Clink-self-contained=no
}

# build TARGET NAME FLAG…: builds the program and copies it to target/dist.
build() {
    built_for=$1 name=$2
    shift 2
    echo "building $name for $built_for" >&2
    # Unquoted: $cargo is a command with arguments.
    $cargo --locked --profile static --bin wscast --target "$built_for" "$@" || return
    install -m 755 "$target/$built_for/static/wscast" "$dist/$name"
}

release() {
    arch=$(arch_of "$1") || {
        missing "$1: write a target for x86_64, aarch64 or armv7"
        return
    }
    prepare "$1" || {
        missing "$1: $why"
        return
    }
    build "$1" "wscast-linux-$arch" &&
        build "$1" "wscast-small-linux-$arch" --no-default-features || {
        missing "$1: the build failed"
        return
    }
    if have dpkg-deb; then
        sh assets/deploy/debian/build.sh "$dist/wscast-linux-$arch" "$arch" "$version" "$dist" ||
            missing "the package for $arch"
    else
        missing "the package for $arch: dpkg-deb is missing, Debian's package dpkg has it"
    fi
}

rm -rf "$dist"
# The folder is the context of Dockerfile.scratch, which gives the empty one to the image's user.
mkdir -p "$dist/empty"
if [ $# -eq 0 ]; then
    set -- x86_64-unknown-linux-musl aarch64-unknown-linux-musl armv7-unknown-linux-musleabihf
fi
for wanted in "$@"; do
    release "$wanted"
    case $wanted-$host in
    x86_64-*-musl-x86_64-*-gnu | aarch64-*-musl-aarch64-*-gnu)
        if [ ! -e "$dist/wscast-linux-$(arch_of "$wanted")" ]; then
            echo "$host stands in for $wanted" >&2
            release "$host"
        fi
        ;;
    esac
done

programs=$(cd "$dist" && ls wscast-* 2>/dev/null)
[ -n "$programs" ] || exit 1
(cd "$dist" && sha256sum wscast* >SHA256SUMS)
# Without it, programs for other machines are not run.
have qemu-aarch64-static || have qemu-aarch64 || install_debian qemu-user-static || :
if ensure_python3; then
    check=$PWD/assets/deploy/release_check.py
    # Unquoted: one argument for each program.
    (cd "$dist" && python3 "$check" $programs) || failed=1
else
    echo "not measured: $why" >&2
fi
exit "$failed"
