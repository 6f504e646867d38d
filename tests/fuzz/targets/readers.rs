//! One fuzz target for every reader in `longclip::readers`: `LONGCLIP_READER` names it by its file.
//! `pickle` is the pickle in a checkpoint's zip. Whole files for it are written into the corpus at
//! `LONGCLIP_CORPUS` first.

#![no_main]

#[path = "../../container/fixtures.rs"]
#[allow(dead_code, reason = "shared with the container test")]
mod fixtures;
#[path = "../seeds.rs"]
mod seeds;

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use longclip::readers::{READERS, Reader};
use tempfile::TempDir;

/// The reader, and where it reads.
struct Target {
    reader: Reader,
    is_pickle: bool,
    path: PathBuf,
    _folder: TempDir,
}

static TARGET: LazyLock<Target> = LazyLock::new(|| {
    let wanted = env::var("LONGCLIP_READER").expect("LONGCLIP_READER names a reader");
    let is_pickle = wanted == "pickle";
    let file = if is_pickle { "weights.pt" } else { &wanted };
    let reader = READERS.iter().find(|reader| reader.file == file);
    let reader = *reader.expect("LONGCLIP_READER names a reader");
    // The fixtures are found from there.
    env::set_current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../..")).unwrap();
    let folder = TempDir::new().unwrap();
    seeds::furnish(folder.path());
    if let Ok(corpus) = env::var("LONGCLIP_CORPUS") {
        for (number, bytes) in seeds::of(file, folder.path()).iter().enumerate() {
            let bytes = if is_pickle { pickle_of(bytes) } else { Some(&bytes[..]) };
            if let Some(bytes) = bytes {
                fs::write(Path::new(&corpus).join(format!("seed{number}")), bytes).unwrap();
            }
        }
    }
    Target {
        reader,
        is_pickle,
        path: folder.path().join(file),
        _folder: folder,
    }
});

/// The data.pkl in a checkpoint that torch.save wrote: from its first opcode to the zip directory.
fn pickle_of(bytes: &[u8]) -> Option<&[u8]> {
    let find = |what: &[u8]| bytes.windows(what.len()).position(|found| found == what);
    let name = find(b"/data.pkl")?;
    let start = name + bytes.get(name..)?.iter().position(|&byte| byte == 0x80)?;
    bytes.get(start..bytes.len().min(start + 4096))
}

fuzz_target!(init: { LazyLock::force(&TARGET); }, |data: &[u8]| {
    let target = &*TARGET;
    let zipped = target.is_pickle.then(|| seeds::zip("archive/data.pkl", data));
    fs::write(&target.path, zipped.as_deref().unwrap_or(data)).unwrap();
    let _ = target.reader.read(&target.path);
});
