#!/usr/bin/env bash
# What is published, installed where nothing else is: release.sh DIR
#
# Builds the archive, the wheel and the .deb for Linux on this CPU in DIR by .github/package.sh (files
# that are there are not built again), installs each, and classifies the demo images: all answers must
# be the same bytes. Needs what package.sh needs, Python 3 with venv, unshare or root for chroot, and
# PYTHONS, the interpreters to install the wheel with (default: python3).
set -euo pipefail
mkdir -p "${1:?folder}"
dir=$(cd "$1" && pwd)
cd "$(dirname "$0")/.."
target=$(uname -m)-unknown-linux-musl
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
archive=$dir/longclip-$version-$target.tar.gz
[ -f "$archive" ] || .github/package.sh "$target" "$dir"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

question=(classify -q demo --model tiny --labels "a penguin" "a rocket" "a cup of coffee" -f jsonl)
say() { printf '%-34s %s\n' "$1" "$2"; }
seconds() { # seconds COMMAND…: how long it took
    local start
    start=$(date +%s.%N)
    "$@" > "$work/log" 2>&1 || { cat "$work/log" >&2; exit 1; }
    printf '%.1f s' "$(echo "$(date +%s.%N) - $start" | bc)"
}
same() { # same NAME: the answer in $work/answer is that of the first
    [ -f "$work/first" ] || cp "$work/answer" "$work/first"
    cmp "$work/first" "$work/answer"
    say "$1" "$(wc -l < "$work/answer") images, sha256 $(sha256sum < "$work/answer" | cut -c 1-12)"
}
# In a root that has nothing but what was installed into it: no libc, no shell.
alone() { # alone ROOT PROGRAM
    cp -r assets/demo "$1/demo"
    rm "$1/demo/README.md"
    if [ "$(id -u)" = 0 ]; then
        chroot "$1" "$2" "${question[@]}" > "$work/answer"
    else
        unshare --map-root-user --root="$1" "$2" "${question[@]}" > "$work/answer"
    fi
}

mkdir "$work/archive"
took=$(seconds tar -xzf "$archive" -C "$work/archive")
inside=longclip-$version-$target
for file in longclip LICENSE NOTICE README.md completions/longclip.bash completions/_longclip \
    completions/longclip.fish completions/longclip.ps1 man/longclip.1 man/longclip-classify.1; do
    [ -s "$work/archive/$inside/$file" ] || { echo "the archive lacks $file" >&2; exit 1; }
done
alone "$work/archive" "/$inside/longclip"
same "archive, alone in a root"
say "  unpacking" "$took, $(du -h "$archive" | cut -f1) packed"

deb=$(ls "$dir"/longclip_"$version"_*.deb)
mkdir -p "$work/deb/var/lib/dpkg/info" "$work/deb/var/lib/dpkg/updates"
touch "$work/deb/var/lib/dpkg/status"
took=$(seconds dpkg --root="$work/deb" --force-not-root --log=/dev/null --install "$deb")
[ "$(dpkg-query --admindir="$work/deb/var/lib/dpkg" -f '${Status}' -W longclip)" = "install ok installed" ]
alone "$work/deb" /usr/bin/longclip
same ".deb, alone in a root"
say "  dpkg --install" "$took, $(du -h "$deb" | cut -f1)"

wheel=$(ls "$dir"/longclip-"$version"-*"$(uname -m)"*.whl)
mkdir "$work/wheel"
cp -r assets/demo "$work/wheel/demo"
rm "$work/wheel/demo/README.md"
for python in ${PYTHONS:-python3}; do
    venv=$work/venv-$(basename "$python")
    "$python" -m venv "$venv"
    took=$(seconds "$venv/bin/pip" install --no-index --disable-pip-version-check "$wheel")
    (cd "$work/wheel" && "$venv/bin/longclip" "${question[@]}") > "$work/answer"
    same "wheel, $("$venv/bin/python" --version)"
    (cd "$work/wheel" && "$venv/bin/python" -m longclip "${question[@]}") > "$work/answer"
    same "  python -m longclip"
    say "  pip install" "$took, $(du -h "$wheel" | cut -f1)"
    "$venv/bin/pip" uninstall --yes longclip > /dev/null
    [ ! -e "$venv/bin/longclip" ]
done
