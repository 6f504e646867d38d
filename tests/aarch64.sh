#!/usr/bin/env bash
# The kernels, the golden numbers and the program on 64-bit ARM, in an emulator: each set of kernels on a CPU that has
# no instructions beyond it. Says nothing about speed. The golden tests of training take an emulator many minutes: they
# run once, last.
#
# Needs, on Debian, apt-get install qemu-user gcc-aarch64-linux-gnu, and rustup target add aarch64-unknown-linux-gnu.
# Options for cargo are passed on: tests/aarch64.sh --release
set -euo pipefail
cd "$(dirname "$0")/.."

target=aarch64-unknown-linux-gnu
compiler=aarch64-linux-gnu-gcc
emulator=$(command -v qemu-aarch64 || command -v qemu-aarch64-static || true)
missing=()
[[ $emulator ]] || missing+=("qemu-aarch64 (Debian's qemu-user)")
command -v "$compiler" >/dev/null || missing+=("$compiler (Debian's gcc-aarch64-linux-gnu)")
[[ -d $(rustc --print target-libdir --target "$target") ]] || missing+=("the target (rustup target add $target)")
if ((${#missing[@]})); then
  printf 'missing: %s\n' "${missing[@]}" >&2
  exit 2
fi

export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=$compiler
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER=$emulator
export QEMU_LD_PREFIX=/usr/aarch64-linux-gnu

# The golden tests on a CPU of the emulator; its kernels' tests run every level it has.
check() {
  echo "== $QEMU_CPU, LONGCLIP_KERNEL=$LONGCLIP_KERNEL"
  cargo test --locked --target "$target" "$@" --lib kernel::
  cargo test --locked --target "$target" "$@" --test library golden:: -- --skip golden::training
}

classify() {
  cargo run --locked --quiet "$@" -- classify -v assets/demo/*.png --model tiny --format jsonl \
    --labels "a penguin" "an owl" "a duck"
}

# What the program says it chose, for each CPU.
for case in "cortex-a57:f32.* neon$" "neoverse-n1:f32.* neon dotprod$" "max:bf16.* neon bf16 i8mm$"; do
  export QEMU_CPU=${case%%:*} LONGCLIP_KERNEL=
  check "$@"
  classify --target "$target" "$@" 2>&1 >/dev/null | grep "^device: cpu in ${case#*:}"
done

export QEMU_CPU=cortex-a57 LONGCLIP_KERNEL=scalar
check "$@"
# Plain Rust gives the same records on every architecture, to the byte.
records=$(mktemp -d)
trap 'rm -r "$records"' EXIT
classify --target "$target" "$@" >"$records/aarch64"
classify "$@" >"$records/here"
cmp "$records/aarch64" "$records/here"

export QEMU_CPU=cortex-a57 LONGCLIP_KERNEL=
cargo test --locked --target "$target" "$@" --test library golden::training
echo "all as expected"
