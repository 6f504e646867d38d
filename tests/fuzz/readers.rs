//! Every reader of files against damaged copies of whole ones: none may panic, take over two
//! seconds, or use more memory than a file of this size can ask for.

use std::fs;

use longclip::readers::READERS;

use super::mutate::{Random, damage, reseal, unseal};
use super::{MOST_MEMORY, Tally, attempt, mutations, seeds, turn};

/// Damaged copies for each that the others have: opening one takes a file, and there are many
/// readers.
const SHARE: usize = 4;

#[test]
fn every_reader_takes_whole_files_and_survives_damaged_ones() {
    let _turn = turn();
    let mut wrong = Vec::new();
    for reader in READERS {
        let folder = tempfile::tempdir().unwrap();
        seeds::furnish(folder.path());
        let path = folder.path().join(reader.file);
        let whole = seeds::of(reader.file, folder.path());
        for bytes in &whole {
            fs::write(&path, bytes).unwrap();
            if let Err(error) = reader.read(&path) {
                wrong.push(format!("{}: {error:#}", reader.file));
            }
        }
        let mut random = Random::new(reader.file);
        let mut tally = Tally::default();
        // A vocabulary takes a hundred times as long.
        let is_large = whole.iter().any(|bytes| bytes.len() > 1 << 18);
        let share = if is_large { 20 * SHARE } else { SHARE };
        for copy in 0..mutations() / share {
            let mut bytes = whole[copy % whole.len()].clone();
            let inner = (random.below(2) == 0).then(|| unseal(&mut bytes)).flatten();
            let range = inner.unwrap_or(0..bytes.len());
            damage(&mut bytes, range, &mut random);
            if random.below(2) == 0 {
                reseal(&mut bytes);
            }
            attempt(
                reader.file,
                copy,
                &bytes,
                MOST_MEMORY,
                &mut tally,
                |bytes| {
                    fs::write(&path, bytes).unwrap();
                    reader.read(&path).is_ok()
                },
            );
        }
        println!("{}: {tally:?}", reader.file);
        if tally.refused == 0 {
            wrong.push(format!("{}: no damage was refused", reader.file));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
