//! Thousands of damaged files: each is read or refused, none panics or hangs.

use longclip::checkpoint::container;

use crate::fixtures;

/// Damaged copies of each fixture.
const COPIES: usize = 300;

/// A small generator of Marsaglia's xorshift family: the same numbers on every run.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % limit as u64).unwrap()
    }

    fn byte(&mut self) -> u8 {
        // Values at the edges break more than average ones.
        match self.below(4) {
            0 => [0, 1, 0x7f, 0x80, 0xff, b'.', b'(', b'R'][self.below(8)],
            _ => u8::try_from(self.below(256)).unwrap(),
        }
    }
}

/// Change a few bytes, or cut, repeat or drop a piece.
fn damage(bytes: &mut [u8], range: std::ops::Range<usize>, random: &mut Random) {
    for _ in 0..=random.below(4) {
        let at = range.start + random.below(range.len());
        match random.below(8) {
            0 if at + 8 <= bytes.len() => bytes[at..at + 8].fill(random.byte()),
            1 => {
                let piece = bytes[at..(at + random.below(40)).min(bytes.len())].to_vec();
                let to = range.start + random.below(range.len());
                let length = piece.len().min(bytes.len() - to);
                bytes[to..to + length].copy_from_slice(&piece[..length]);
            }
            2 => bytes[at] ^= 1 << random.below(8),
            _ => bytes[at] = random.byte(),
        }
    }
}

/// Read everything the file offers.
fn exercise(bytes: Vec<u8>) -> bool {
    let Ok(archive) = container::open_bytes(bytes) else {
        return false;
    };
    for tensor in archive.tensors.values() {
        if tensor.elements() > 1 << 16 {
            continue; // an expanded view: right, but slow in this loop
        }
        let _ = tensor.to_f32();
        let _ = tensor.transpose().map(|t| t.to_f32());
        let _ = tensor.narrow(1, 1).map(|t| t.to_f32());
        let _ = tensor.reshape(&[tensor.elements()]);
        let _ = tensor.first_non_finite();
    }
    true
}

/// Where data.pkl's content lies in a zip, after its checksum was set to zero, which
/// says that there is none: otherwise it would hide nearly all damage.
fn unseal(bytes: &mut [u8]) -> Option<std::ops::Range<usize>> {
    let find = |bytes: &[u8], magic: &[u8], from: usize| {
        (from..bytes.len().saturating_sub(46))
            .find(|&at| bytes[at..].starts_with(magic) && bytes[at..].len() > 46)
    };
    let u16_at =
        |bytes: &[u8], at: usize| usize::from(u16::from_le_bytes([bytes[at], bytes[at + 1]]));
    let mut from = 0;
    while let Some(at) = find(bytes, b"PK\x01\x02", from) {
        let name = bytes[at + 46..][..u16_at(bytes, at + 28)].to_vec();
        if name.ends_with(b"/data.pkl") {
            bytes[at + 16..at + 20].fill(0);
            let length = u32::from_le_bytes(bytes[at + 20..at + 24].try_into().unwrap()) as usize;
            let header = u32::from_le_bytes(bytes[at + 42..at + 46].try_into().unwrap()) as usize;
            let start = header + 30 + u16_at(bytes, header + 26) + u16_at(bytes, header + 28);
            return Some(start..start + length);
        }
        from = at + 4;
    }
    None
}

#[test]
fn damaged_files_are_read_or_refused() {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let (mut read, mut refused) = (0, 0);
    for (_, bytes) in fixtures::all() {
        for copy in 0..COPIES {
            let mut bytes = bytes.clone();
            let pickle = if copy % 2 == 0 {
                unseal(&mut bytes)
            } else {
                None
            };
            let whole = 0..bytes.len();
            damage(&mut bytes, pickle.unwrap_or(whole), &mut random);
            if exercise(bytes) {
                read += 1;
            } else {
                refused += 1;
            }
        }
    }
    // Both must happen, or the damage is not of the interesting kind.
    assert!(
        read > 500 && refused > 2000,
        "{read} read, {refused} refused"
    );
}
