//! See Cargo.toml.

#![allow(dead_code, unused_imports, reason = "the rooms above use the rest")]

#[path = "../../../src/file/mod.rs"]
mod file;
#[path = "../../../src/kernel/mod.rs"]
mod kernel;

#[path = "../../../src/checkpoint"]
mod checkpoint {
    pub mod container;
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::checkpoint::container;

    /// Every container, cut and damaged, in a mapped file: all offsets of a header are followed.
    #[test]
    fn damaged_weights_are_read_within_their_bounds() {
        let fixtures = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/container");
        let place = tempfile::tempdir().unwrap().path().join("weights");
        fs::create_dir_all(place.parent().unwrap()).unwrap();
        let (mut read, mut refused) = (0, 0);
        for entry in fs::read_dir(fixtures).unwrap() {
            let whole = fs::read(entry.unwrap().path()).unwrap();
            for seed in 0..200_usize {
                let mut bytes = whole.clone();
                let at = seed.wrapping_mul(0x9e37_79b9) % bytes.len();
                match seed % 3 {
                    0 => bytes.truncate(at),
                    1 => bytes[at] ^= 1 << (seed % 8),
                    _ => bytes[at] = u8::MAX,
                }
                fs::write(&place, bytes).unwrap();
                let Ok(archive) = container::open(&place) else {
                    refused += 1;
                    continue;
                };
                read += 1;
                for tensor in archive.tensors.values() {
                    if tensor.elements() <= 1 << 16 {
                        let _ = (tensor.to_f32(), tensor.count_non_finite());
                    }
                }
            }
        }
        assert!(read > 100 && refused > 100, "{read} {refused}");
    }
}
