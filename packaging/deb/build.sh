#!/bin/sh
# A Debian package of a program that is built already:
#
#   packaging/deb/build.sh target/release/ssegateway target
#   apt install ./target/ssegateway_*.deb
#
# Needs dpkg, and for a program that is not static dpkg-dev, which knows the libraries' versions.
# DEBFULLNAME and DEBEMAIL say who maintains it.
set -eu

if [ $# -ne 2 ]; then
    echo "usage: $0 PROGRAM FOLDER" >&2
    exit 2
fi
program=$(realpath "$1")
folder=$(realpath "$2")
cd "$(dirname "$0")/../.."

name=ssegateway
version=$(sed -n 's/^version = "\(.*\)"$/\1/p' Cargo.toml | head -n 1)-1
architecture=$(dpkg --print-architecture)
maintainer="${DEBFULLNAME:-The SSE Gateway authors} <${DEBEMAIL:-ssegateway@packages.invalid}>"
# The same commit makes the same package.
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2> /dev/null || date +%s)}
export SOURCE_DATE_EPOCH

tree=$(mktemp -d)
trap 'rm -rf "$tree"' EXIT
# Where dpkg-shlibdeps looks for it.
root=$tree/debian/$name
doc=$root/usr/share/doc/$name
units=$root/usr/lib/systemd/system
umask 022

# put MODE FILE TARGET: from a file, or - for standard input.
put() {
    mkdir -p "$(dirname "$3")"
    cat "$2" > "$3"
    chmod "$1" "$3"
}
date_of() { date --utc --date="@$SOURCE_DATE_EPOCH" "$@"; }

# ---- what it installs ----

put 755 "$program" "$root/usr/bin/$name"
# Already so for a release build; a package is no place for symbols.
if command -v strip > /dev/null; then
    strip --remove-section=.comment --remove-section=.note "$root/usr/bin/$name"
fi
# The callback URL and keys are root's alone; systemd reads the file before it drops its rights.
put 600 packaging/ssegateway.env "$root/etc/ssegateway.env"
for unit in packaging/*.service packaging/*.socket; do
    # What the package does needs no telling how.
    sed 's,/usr/local/bin/,/usr/bin/,; /^#   install /d' "$unit" |
        put 644 - "$units/$(basename "$unit")"
done
gzip -9n < packaging/ssegateway.8 | put 644 - "$root/usr/share/man/man8/$name.8.gz"
gzip -9n << END | put 644 - "$doc/changelog.Debian.gz"
$name ($version) unstable; urgency=medium

  * Version ${version%-1}.

 -- $maintainer  $(LC_ALL=C date_of -R)
END
{
    cat << END
Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/
Upstream-Name: $name

Files: *
Copyright: $(sed -n 's/^Copyright (c) //p' LICENSE)
License: Expat

License: Expat
END
    # The licence's text, indented as the format has it.
    sed '1,/^Copyright/d' LICENSE | sed '1{/^$/d}; s/^$/./; s/^/ /'
} | put 644 - "$doc/copyright"

# ---- what it says of itself ----

depends=
mkdir "$root/DEBIAN"
if ldd "$root/usr/bin/$name" 2> /dev/null | grep -q '=>'; then
    printf 'Source: %s\n\nPackage: %s\nArchitecture: any\n' "$name" "$name" > "$tree/debian/control"
    depends=$(cd "$tree" && dpkg-shlibdeps -O "debian/$name/usr/bin/$name")
    depends="Depends: ${depends#*=}"
    overrides=
else
    overrides="# One program for every release, which loads nothing.
$name: statically-linked-binary [usr/bin/$name]
$name: shared-library-lacks-prerequisites [usr/bin/$name]"
fi
put 644 - "$root/usr/share/lintian/overrides/$name" << END
# It is not for Debian's own archive.
$name: initial-upload-closes-no-bugs [usr/share/doc/$name/changelog.Debian.gz:1]
# For root alone: it holds keys.
$name: non-standard-file-perm 0600 != 0644 [etc/$name.env]
$overrides
END
put 644 - "$root/DEBIAN/control" << END
Package: $name
Version: $version
Architecture: $architecture
Maintainer: $maintainer
Installed-Size: $(du -sk "$root" | cut -f 1)
Pre-Depends: init-system-helpers (>= 1.54~)
${depends:+$depends
}Section: web
Priority: optional
Description: sidecar that holds Server-Sent Events connections for a backend
 It takes the event streams of a web application's clients, so that its backend,
 in any language, need not: a client's GET becomes one HTTP callback to the
 backend, which decides whether the stream opens. From then on the backend sends
 events with plain HTTP requests, to one stream or to many, and is told exactly
 once when the client is gone.
 .
 One thread holds all connections; nothing is kept on disk. The service listens
 on 127.0.0.1 until /etc/ssegateway.env says otherwise, and has no streams until
 it says whom to ask about them.
END
echo /etc/ssegateway.env | put 644 - "$root/DEBIAN/conffiles"
for script in postinst prerm postrm; do
    put 755 "packaging/deb/$script" "$root/DEBIAN/$script"
done
(cd "$root" && find usr -type f -print0 | LC_ALL=C sort -z | xargs -0 md5sum) |
    put 644 - "$root/DEBIAN/md5sums"

dpkg-deb --root-owner-group -Zxz --build "$root" "$folder/${name}_${version}_$architecture.deb"
