# Makes a Debian package of a static program:
#
#     sh assets/deploy/debian/build.sh PROGRAM ARCH VERSION FOLDER
#
# ARCH is amd64, arm64 or armv7. The package is FOLDER/wscast_VERSION_ARCH.deb, with Debian's name of the architecture.

set -eu
program=$1 version=$3 folder=$4
case $2 in
armv7) arch=armhf ;;
*) arch=$2 ;;
esac
here=$(cd "$(dirname "$0")" && pwd)
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
# mktemp makes a folder for its owner only, but this one becomes the root of the system.
chmod 755 "$root"

install -D -m 755 "$program" "$root/usr/bin/wscast"
for unit in wscast.service wscast.socket wscast@.service; do
    install -d "$root/lib/systemd/system"
    sed 's|/usr/local/bin/|/usr/bin/|' "$here/../$unit" >"$root/lib/systemd/system/$unit"
done
install -D -m 644 "$here/../wscast.toml" "$root/usr/share/doc/wscast/examples/wscast.toml"
install -D -m 644 "$here/../../../LICENSE" "$root/usr/share/doc/wscast/copyright"
install -d "$root/DEBIAN"
size=$(du -sk "$root" | cut -f 1)
cat >"$root/DEBIAN/control" <<END
Package: wscast
Version: $version
Architecture: $arch
Maintainer: wscast <wscast@localhost>
Section: web
Priority: optional
Depends: passwd
Installed-Size: $size
Description: WebSocket broadcast server
 Clients join rooms and send JSON, and every member of the room receives it.
 One static program on one port, with history, tokens and TLS.
END
for script in postinst prerm postrm; do
    install -m 755 "$here/$script" "$root/DEBIAN/$script"
done
dpkg-deb --root-owner-group -Zxz --build "$root" "$folder/wscast_${version}_$arch.deb" >/dev/null
