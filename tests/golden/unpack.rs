//! Unpacks the checkpoints in `checkpoints/` into ordinary files.
//!
//! The format is described in `pack.py`, which writes them: every file is a list of parts, each a
//! run of zero bytes or a slice of one pool of bytes.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use flate2::read::GzDecoder;
use serde::Deserialize;
use sha2::{Digest, Sha256};

#[derive(Deserialize)]
struct Manifest {
    pool_bytes: usize,
    files: BTreeMap<String, Packed>,
}

#[derive(Deserialize)]
struct Packed {
    bytes: usize,
    sha256: String,
    /// `[length]` of zeros, or `[length, offset in the pool]`.
    parts: Vec<Vec<usize>>,
}

/// The folder of this test's data in the repository.
pub(crate) fn data_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

/// Unpacks every checkpoint with a path that starts with `prefix` into `out`, and checks its
/// sha256.
///
/// # Panics
/// When a file cannot be written or differs from the packed one, or nothing matches.
pub(crate) fn unpack(prefix: &str, out: &Path) {
    unpack_from("checkpoints", prefix, out);
}

/// [`unpack`] from another folder of test data.
///
/// # Panics
/// As [`unpack`].
pub(crate) fn unpack_from(folder: &str, prefix: &str, out: &Path) {
    let folder = data_folder().join(folder);
    let manifest = fs::read(folder.join("pack.json")).expect("pack.json is in the repository");
    let manifest: Manifest =
        serde_json::from_slice(&manifest).expect("pack.json has the format of pack.py");
    let pool = read_pool(&folder.join("pool.gz"), manifest.pool_bytes);
    let wanted: Vec<_> = manifest
        .files
        .iter()
        .filter(|(path, _)| path.starts_with(prefix))
        .collect();
    assert!(
        !wanted.is_empty(),
        "no packed checkpoint starts with {prefix}"
    );
    for (path, packed) in wanted {
        write_file(&out.join(path), packed, &pool);
    }
}

/// The pool is stored as four planes: the first byte of every four, the second, and so on.
fn read_pool(path: &Path, bytes: usize) -> Vec<u8> {
    let mut planes = Vec::with_capacity(bytes);
    let file = File::open(path).expect("pool.gz is in the repository");
    GzDecoder::new(file)
        .read_to_end(&mut planes)
        .expect("pool.gz is complete");
    assert_eq!(planes.len(), bytes, "the pool's size");
    let quarter = bytes / 4;
    (0..bytes)
        .map(|i| planes[i % 4 * quarter + i / 4])
        .collect()
}

fn write_file(path: &Path, packed: &Packed, pool: &[u8]) {
    fs::create_dir_all(path.parent().expect("below a folder")).expect("folder for a checkpoint");
    let mut file = BufWriter::new(File::create(path).expect("a checkpoint file"));
    let mut hash = Sha256::new();
    let mut written = 0;
    for part in &packed.parts {
        let zeros;
        let bytes = match part[..] {
            [length] => {
                zeros = vec![0; length];
                &zeros[..]
            }
            [length, offset] => &pool[offset..offset + length],
            _ => panic!("a part is [length] or [length, offset]"),
        };
        hash.update(bytes);
        file.write_all(bytes).expect("space for a checkpoint");
        written += bytes.len();
    }
    file.flush().expect("space for a checkpoint");
    assert_eq!(written, packed.bytes, "size of {}", path.display());
    let digest: String = hash
        .finalize()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    assert_eq!(digest, packed.sha256, "content of {}", path.display());
}
