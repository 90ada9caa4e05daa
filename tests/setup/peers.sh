# Installs the servers that wscast is compared with, and runs the comparison:
#
#     sh tests/setup/peers.sh [FLAG…]
#
# Everything is installed below target/peers, except Debian's packages, which only root can install. A server that
# cannot be installed is skipped and named. With `--peers` only the servers that it names are installed.

set -u
cd "$(dirname "$0")/../.." || exit
. tests/setup/lib.sh
: >"$log"
folder=$target/peers
servers=$PWD/tests/bench/peers/servers
installed=$folder/installed
export PYTHONDONTWRITEBYTECODE=1

# A function `setup_NAME` installs a server and sets $version and $start: its command, with tabs between arguments.
tab=$(printf '\t')

setup_bun() {
    ensure_node_packages "$folder/npm" "$servers" || return
    bun=$(find "$folder/npm/node_modules/@oven" -path '*/bin/bun' -type f | head -n 1)
    if ! [ -x "$bun" ] || ! version="Bun $("$bun" --version 2>>"$log")"; then
        why="the npm package bun has no program for this machine"
        return 1
    fi
    start="$bun$tab$servers/bun_hub.js"
}

setup_ws() {
    ensure_node_packages "$folder/npm" "$servers" || return
    # Node looks for packages from the folder of the program upward.
    cp "$servers/ws_hub.mjs" "$folder/npm/"
    version="Node $(node --version), ws $(sed -n 's/^ *"ws": "\(.*\)".*/\1/p' "$servers/package.json")"
    start="node$tab$folder/npm/ws_hub.mjs"
}

setup_websockets() {
    ensure_python3_packages "$folder/venv" "$servers/requirements.txt" || return
    version="$("$folder/venv/bin/python" --version), websockets $(required websockets)"
    start="$folder/venv/bin/python$tab$servers/websockets_hub.py"
}

setup_flask() {
    ensure_python3_packages "$folder/venv" "$servers/requirements.txt" || return
    version="$("$folder/venv/bin/python" --version), Flask $(required flask), flask-sock $(required flask-sock)"
    start="$folder/venv/bin/python$tab$servers/flask_hub.py"
}

required() {
    sed -n "s/^$1==//p" "$servers/requirements.txt"
}

setup_gorilla() {
    gorilla_source=/usr/share/gocode/src/github.com/gorilla/websocket
    if ! have go || ! [ -d "$gorilla_source" ]; then
        install_debian golang-go golang-github-gorilla-websocket-dev || return
    fi
    # Debian's packages are below GOPATH, so no module is downloaded.
    if ! logged env GO111MODULE=off GOPATH=/usr/share/gocode GOCACHE="$folder/gocache" \
        go build -o "$folder/gorilla_hub" "$servers/gorilla_hub.go"; then
        why="go build failed, see $log"
        return 1
    fi
    version="$(go version | cut -d ' ' -f 3), gorilla/websocket $(debian_version golang-github-gorilla-websocket-dev)"
    start=$folder/gorilla_hub
}

setup_nchan() {
    ensure_nginx || return
    if ! [ -f /usr/lib/nginx/modules/ngx_nchan_module.so ]; then
        install_debian libnginx-mod-nchan || return
    fi
    version="nginx $(debian_version nginx), nchan $(debian_version libnginx-mod-nchan)"
    start="sh$tab$servers/nchan.sh$tab$folder/nchan"
}

debian_version() {
    dpkg-query -W -f '${Version}' "$1" 2>>"$log" || echo "of unknown version"
}

setup_tungstenite() {
    tungstenite_manifest=$servers/tungstenite/Cargo.toml
    echo "building the tokio-tungstenite hub (cargo)"
    if ! logged cargo build --release --locked --manifest-path "$tungstenite_manifest" \
        --target-dir "$folder/tungstenite"; then
        why="cargo build failed, see $log"
        return 1
    fi
    version="tokio-tungstenite $(sed -n 's/^tokio-tungstenite = "\(.*\)"/\1/p' "$tungstenite_manifest")"
    start=$folder/tungstenite/release/tungstenite-hub
}

# Prints the servers that the flags name, one a line.
wanted_servers() {
    wanted=
    while [ $# -gt 0 ]; do
        case $1 in
        --peers) wanted=${2:-} ;;
        --peers=*) wanted=${1#*=} ;;
        esac
        shift
    done
    echo "${wanted:-bun,nchan,gorilla,tungstenite,ws,websockets,flask}" | tr ',' '\n'
}

mkdir -p "$folder"
: >"$installed.new"
for name in $(wanted_servers "$@"); do
    # The floor and wscast are built with the bench. An unknown name is its error.
    case $name in bun | nchan | gorilla | tungstenite | ws | websockets | flask) ;; *) continue ;; esac
    if "setup_$name"; then
        printf '%s\t%s\t%s\n' "$name" "$version" "$start" >>"$installed.new"
    else
        echo "SKIPPED $name: $why"
        printf '%s\tskipped\t%s\n' "$name" "$why" >>"$installed.new"
    fi
done
mv "$installed.new" "$installed"
cargo bench --locked --bench fanout -- peers --installed "$installed" "$@"
status=$?
case " $* " in
*" --list "* | *" --help "* | *" -h "* | *" --json"*) exit $status ;;
esac
if ! ensure_python3; then
    echo "no chart and no tables: $why"
    exit 1
fi
# The pages on performance change only with `--page`.
case " $* " in
*" --page "*) pages='assets/docs/performance.md assets/docs/zh/performance.md' picture=assets/docs/performance.svg ;;
*) pages='' picture=$folder/chart.svg ;;
esac
python3 tests/bench/peers/page.py "$folder/results.json" "$picture" $pages || status=1
exit $status
