#!/usr/bin/env bash
# What is published for one target: package.sh TARGET DIR writes to DIR
#
#     longclip-VERSION-TARGET.tar.gz (Windows: .zip)  the program, completions, manual, licences
#     longclip-VERSION-….whl                          the program for pip
#     longclip_VERSION_ARCH.deb                       where TARGET is a Linux
#
# Needs maturin, and for musl a C compiler: musl-gcc (Debian's musl-tools) for this machine's own CPU,
# zig (the package ziglang next to maturin) for another. RUNNER runs programs of TARGET if this
# machine cannot, as in RUNNER=qemu-aarch64-static. PROFILE is dist unless it is set.
set -euo pipefail
target=${1:?target}
mkdir -p "${2:?folder}"
out=$(cd "$2" && pwd)
cd "$(dirname "$0")/.."
profile=${PROFILE:-dist}
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
built=${CARGO_TARGET_DIR:-target}/$target/$profile
# The same bytes from the same commit.
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}
export SOURCE_DATE_EPOCH

options=(--profile "$profile" --target "$target" --out "$out")
case $target in
    *-linux-musl)
        # Static, so it needs no libc at all: one wheel for every Linux.
        options+=(--compatibility manylinux_2_17 musllinux_1_1)
        if [ "${target%%-*}" = "$(uname -m)" ]; then
            export "CC_${target//-/_}=musl-gcc"
        else
            options+=(--zig)
        fi
        ;;
esac
# pyproject.toml asks for --locked.
maturin build "${options[@]}"

program=longclip
[[ $target == *windows* ]] && program=longclip.exe
name=longclip-$version-$target
stage=$(mktemp -d)
trap 'rm -rf "$stage"' EXIT
root=$stage/$name
mkdir -p "$root/completions" "$root/man"
cp "$built/$program" README.md LICENSE NOTICE "$root"
run() { ${RUNNER:-} "$root/$program" "$@"; }
run completions bash > "$root/completions/longclip.bash"
run completions zsh > "$root/completions/_longclip"
run completions fish > "$root/completions/longclip.fish"
run completions powershell > "$root/completions/longclip.ps1"
run man --out "$root/man"

tarball() { # tarball FILE FOLDER NAME…
    local file=$1 folder=$2
    shift 2
    tar -C "$folder" --format=ustar --sort=name --mtime="@$SOURCE_DATE_EPOCH" \
        --owner=0 --group=0 --numeric-owner -cf - "$@" | gzip -9n > "$file"
}
case $target in
    *windows*) (cd "$stage" && python3 -m zipfile -c "$out/$name.zip" "$name") ;;
    *apple*) tar -C "$stage" -czf "$out/$name.tar.gz" "$name" ;; # its tar has no --sort
    *) tarball "$out/$name.tar.gz" "$stage" "$name" ;;
esac

case $target in
    x86_64-*-linux-*) architecture=amd64 ;;
    aarch64-*-linux-*) architecture=arm64 ;;
    *) exit 0 ;;
esac
deb=$stage/deb
install -Dm755 "$root/$program" "$deb/usr/bin/longclip"
install -Dm644 "$root/completions/longclip.bash" \
    "$deb/usr/share/bash-completion/completions/longclip"
install -Dm644 -t "$deb/usr/share/zsh/vendor-completions" "$root/completions/_longclip"
install -Dm644 -t "$deb/usr/share/fish/vendor_completions.d" "$root/completions/longclip.fish"
install -Dm644 -t "$deb/usr/share/man/man1" "$root"/man/*.1
gzip -9n "$deb"/usr/share/man/man1/*.1
mkdir -p "$deb/usr/share/doc/longclip"
cat LICENSE NOTICE > "$deb/usr/share/doc/longclip/copyright"
field() { sed -n "s/^$1 = \"\(.*\)\"/\1/p" Cargo.toml | head -n 1; }
mkdir "$deb/DEBIAN"
cat > "$deb/DEBIAN/control" <<CONTROL
Package: longclip
Version: $version
Architecture: $architecture
Maintainer: longclip <$(field repository)>
Installed-Size: $(du -sk "$deb/usr" | cut -f1)
Section: graphics
Priority: optional
Homepage: $(field repository)
Description: $(field description)
 The program is static and needs no other package.
CONTROL
dpkg-deb --root-owner-group -Zxz --build "$deb" "$out/longclip_${version}_$architecture.deb" > /dev/null
