//! Mutations of files: bytes, numbers, pieces, lengths.

/// A small generator of Marsaglia's xorshift family: deterministic across runs.
pub(crate) struct Random(u64);

impl Random {
    /// A separate stream for each name.
    pub(crate) fn new(name: &str) -> Self {
        let seed = name.bytes().fold(0x9e37_79b9_7f4a_7c15_u64, |seed, byte| {
            (seed ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        Self(seed | 1)
    }

    /// A number in 0..limit.
    pub(crate) fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % limit.max(1) as u64).unwrap()
    }

    fn byte(&mut self) -> u8 {
        // Edge values and pickle opcodes break more than average bytes.
        match self.below(4) {
            0 => b"\x00\x01\x7f\x80\xff.(tR}]su0q\x8a\x94"[self.below(17)],
            _ => u8::try_from(self.below(256)).unwrap(),
        }
    }
}

/// Changes, repeats, moves, drops or adds a few pieces of `range`.
pub(crate) fn damage(bytes: &mut Vec<u8>, range: std::ops::Range<usize>, random: &mut Random) {
    for _ in 0..=random.below(4) {
        let range = range.start..range.end.min(bytes.len());
        if range.is_empty() {
            return;
        }
        let at = range.start + random.below(range.len());
        match random.below(12) {
            0 if at + 8 <= bytes.len() => bytes[at..at + 8].fill(random.byte()),
            1 => {
                let piece = bytes[at..(at + random.below(40)).min(bytes.len())].to_vec();
                let to = range.start + random.below(range.len());
                let length = piece.len().min(bytes.len() - to);
                bytes[to..to + length].copy_from_slice(&piece[..length]);
            }
            2 => bytes[at] ^= 1 << random.below(8),
            // Edge values, where lengths and offsets lie.
            3 if at + 4 <= bytes.len() => {
                let numbers = [0, 1, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff, 0xffff, 0x10000];
                let number: u32 = numbers[random.below(numbers.len())];
                bytes[at..at + 4].copy_from_slice(&number.to_le_bytes());
            }
            4 if at + 8 <= bytes.len() => {
                let numbers = [u64::MAX, 1 << 63, i64::MAX as u64, 1 << 40, 1 << 32];
                let number: u64 = numbers[random.below(numbers.len())];
                bytes[at..at + 8].copy_from_slice(&number.to_le_bytes());
            }
            // Digits, for text headers.
            5 => bytes[at] = b"0123456789-eE[]{},:\""[random.below(20)],
            6 if random.below(8) == 0 => bytes.truncate(at),
            7 if random.below(4) == 0 => {
                let piece = bytes[at..(at + 1 + random.below(60)).min(bytes.len())].to_vec();
                let to = range.start + random.below(range.len());
                bytes.splice(to..to, piece);
            }
            8 if random.below(4) == 0 => {
                let end = (at + 1 + random.below(30)).min(bytes.len());
                bytes.drain(at..end);
            }
            _ => bytes[at] = random.byte(),
        }
    }
}

/// Writes the right checksums into a PNG: without them, nearly all damage is refused at once.
pub(crate) fn seal(bytes: &mut [u8]) {
    let mut at = 8;
    while let Some(length) = bytes.get(at..at + 4) {
        let length = u32::from_be_bytes(length.try_into().unwrap()) as usize;
        let end = at + 8 + length;
        let Some(chunk) = bytes.get(at + 4..end) else {
            return;
        };
        let checksum = crc32fast::hash(chunk);
        if let Some(field) = bytes.get_mut(end..end + 4) {
            field.copy_from_slice(&checksum.to_be_bytes());
        }
        at = end + 4;
    }
}

/// Gives the headers of a tar archive and the chunks of a PNG the right checksums, without which
/// nothing in them is read.
pub(crate) fn reseal(bytes: &mut [u8]) {
    if bytes.starts_with(b"\x89PNG") {
        seal(bytes);
    }
    for block in bytes.chunks_exact_mut(512) {
        if &block[257..262] == b"ustar" {
            block[148..156].fill(b' ');
            let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
            block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        }
    }
}

/// The range of data.pkl's content in a zip, after setting its checksum to zero, which means that
/// there is none.
pub(crate) fn unseal(bytes: &mut [u8]) -> Option<std::ops::Range<usize>> {
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
