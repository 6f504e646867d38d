#!/bin/bash
# Coverage-guided fuzzing: run.sh SECONDS [READER…]. Needs nightly Rust and `cargo install
# cargo-fuzz`. Readers are named by the files in src/readers.rs, or `pickle`. Corpora grow in
# targets/corpus and are reduced at the end; what breaks a reader is kept in targets/artifacts.
set -euo pipefail
seconds=${1:?seconds for each reader}
shift
readers=("$@")
if [ $# = 0 ]; then
    readers=(pickle weights.pt rows.safetensors probe.safetensors pairs.tar array.npy array.npz
        images.tar images.tar.gz images.tar.zst images.zip images.parquet photo.heic rows.parquet tokenizer.json
        texts.txt labels.txt labels.csv labels.json labels.yaml
        templates.txt dataset.csv dataset.json pairs.jsonl captions.json list.txt config.json
        rows.npy.partial longclip-sorted.jsonl image.bin)
fi
cd "$(dirname "$0")/targets"
# Files are written and read in every run.
[ -d /dev/shm ] && export TMPDIR=/dev/shm
sanitizer=${SANITIZER:-none}
mkdir -p artifacts
for reader in "${readers[@]}"; do
    export LONGCLIP_READER=$reader LONGCLIP_CORPUS=$PWD/corpus/$reader
    mkdir -p "$LONGCLIP_CORPUS"
    echo "== $reader"
    cargo +nightly fuzz run --fuzz-dir . -s "$sanitizer" readers "$LONGCLIP_CORPUS" -- \
        -artifact_prefix="$PWD/artifacts/" -max_total_time="$seconds" -max_len=65536 \
        -rss_limit_mb=1024 -timeout=5 -print_final_stats=1
    unset LONGCLIP_CORPUS
    cargo +nightly fuzz cmin --fuzz-dir . -s "$sanitizer" readers "corpus/$reader"
done
