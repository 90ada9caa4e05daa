# Takes screenshots of the page for a person to look at; ARGS names those to take, by a part of their names:
#
#     sh tests/setup/screenshots.sh [NAME-PART]

set -u
cd "$(dirname "$0")/../.." || exit
. tests/setup/lib.sh

{ ensure_browser && ensure_chinese_font && ensure_node_packages "$target/browser" tests/browser; } || {
    echo "no screenshots: $why"
    exit 1
}
cargo build --release --locked || exit
WSCAST_BIN=$target/release/wscast BROWSER_MODULES=$target/browser CHROMIUM=$browser \
    node tests/browser/screenshots.mjs "$target/screenshots" "$@"
