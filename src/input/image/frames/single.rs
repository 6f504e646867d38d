//! Whether another image follows a still one, as in a stream of JPEGs.

use std::io::{self, Read};
use std::mem;

use super::super::format::Format;

/// Bytes by which an image is recognised.
const START: usize = 18;

/// A file or stream that should have one still image. It ends where another one of the same format
/// follows, so that a stream without end is not read in search of its end. GIF, TIFF, HEIC, AVIF and
/// JPEG XL are not examined.
pub(super) struct Single<R> {
    stream: R,
    part: Part,
    /// Bytes to pass over before those of `taken`.
    skip: u64,
    /// The bytes of the part so far.
    taken: Vec<u8>,
    has_more: bool,
}

/// Where in the image the stream is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Start,
    /// Before a marker of a JPEG.
    Jpeg,
    /// At a chunk of a PNG.
    Png,
    /// Among the numbers of a PNM in text.
    Plain,
    /// After an image of this format.
    After(Format),
    /// Nothing more is examined.
    Over,
}

impl<R: Read> Single<R> {
    pub(super) fn new(stream: R) -> Self {
        Self {
            stream,
            part: Part::Start,
            skip: 0,
            taken: Vec::new(),
            has_more: false,
        }
    }

    /// Whether another image follows, as far as the stream was read.
    pub(super) fn has_more(&self) -> bool {
        self.has_more
    }

    fn walk(&mut self, mut bytes: &[u8]) {
        while self.part != Part::Over {
            let skipped = self.skip.min(bytes.len() as u64);
            self.skip -= skipped;
            bytes = &bytes[skipped as usize..];
            if self.part == Part::Jpeg && self.taken.is_empty() {
                let at = bytes.iter().position(|byte| *byte == 0xFF);
                bytes = &bytes[at.unwrap_or(bytes.len())..];
            }
            let Some((byte, rest)) = bytes.split_first() else {
                return;
            };
            self.taken.push(*byte);
            bytes = rest;
            self.step();
        }
    }

    /// Moves on if a part is complete.
    fn step(&mut self) {
        let (part, skip) = match (self.part, self.taken.as_slice()) {
            (Part::Start, start) if start.len() == START => return self.begin(),
            (Part::Jpeg, [0xFF, 0xFF]) | (Part::Plain, [b'#', _]) if self.taken[1] != b'\n' => {
                self.taken.pop();
                return;
            }
            (Part::Jpeg, [0xFF, 0xD9]) => (Part::After(Format::Jpeg), 0),
            (Part::Jpeg, [0xFF, 0 | 1 | 0xD0..=0xD8]) => (Part::Jpeg, 0),
            // The list of further images that a camera stored after the one that is shown.
            (Part::Jpeg, [0xFF, 0xE2, _, _, b'M', b'P', b'F', 0]) => (Part::Over, 0),
            (Part::Jpeg, [0xFF, 0xE2, high, low, _, _, _, _]) => {
                let length = u16::from_be_bytes([*high, *low]);
                (Part::Jpeg, length.saturating_sub(6).into())
            }
            (Part::Jpeg, [0xFF, kind, high, low]) if *kind != 0xE2 => {
                let length = u16::from_be_bytes([*high, *low]);
                (Part::Jpeg, length.saturating_sub(2).into())
            }
            (Part::Png, [a, b, c, d, kind @ ..]) if kind.len() == 4 => {
                let part = match kind {
                    b"IEND" => Part::After(Format::Png),
                    _ => Part::Png,
                };
                (part, u64::from(u32::from_be_bytes([*a, *b, *c, *d])) + 4)
            }
            (Part::Plain, [b'P', b'1'..=b'7']) => {
                self.has_more = true;
                (Part::Over, 0)
            }
            (Part::Plain, [b'#' | b'P']) => return,
            (Part::Plain, _) => (Part::Plain, 0),
            (Part::After(format), after) if after.len() == START => {
                self.has_more = Format::of(after) == Some(format);
                (Part::Over, 0)
            }
            _ => return,
        };
        (self.part, self.skip) = (part, skip);
        self.taken.clear();
    }

    fn begin(&mut self) {
        let start = mem::take(&mut self.taken);
        let number = |at: usize| {
            let bytes = start[at..].first_chunk().copied().unwrap_or_default();
            u64::from(u32::from_le_bytes(bytes))
        };
        let rest = |size: u64| size.saturating_sub(START as u64);
        let (part, from, skip) = match Format::of(&start) {
            Some(Format::Jpeg) => (Part::Jpeg, 2, 0),
            Some(Format::Png) => (Part::Png, 8, 0),
            Some(Format::Pnm) => (Part::Plain, 2, 0),
            Some(Format::Bmp) => (Part::After(Format::Bmp), START, rest(number(2))),
            Some(Format::WebP) => {
                let size = number(4).next_multiple_of(2) + 8;
                (Part::After(Format::WebP), START, rest(size))
            }
            _ => (Part::Over, START, 0),
        };
        (self.part, self.skip) = (part, skip);
        self.walk(&start[from..]);
    }
}

impl<R: Read> Read for Single<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.has_more {
            return Ok(0);
        }
        let read = self.stream.read(buffer)?;
        self.walk(&buffer[..read]);
        Ok(if self.has_more { 0 } else { read })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn has_more(bytes: &[u8], step: usize) -> bool {
        let mut single = Single::new(bytes);
        let mut buffer = vec![0; step];
        while single.read(&mut buffer).unwrap() > 0 {}
        single.has_more()
    }

    #[test]
    fn a_second_image_is_found_and_nothing_else() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/image/");
        let read = |name| std::fs::read(format!("{folder}{name}")).unwrap();
        for name in [
            "base.jpg",
            "exif6.jpg",
            "rgb.png",
            "rgb.bmp",
            "lossy.webp",
            "ascii.ppm",
        ] {
            let one = read(name);
            let junk = [&one[..], b"\n\0 appended by somebody"].concat();
            let two = [&one[..], &one[..]].concat();
            for step in [1, 7, 5000] {
                let found = [&one, &junk, &two].map(|bytes| has_more(bytes, step));
                assert_eq!(found, [false, false, true], "{name} {step}");
            }
        }
        let jpeg = read("base.jpg");
        let both = |segment: &[u8]| {
            let first = [&jpeg[..2], segment, &jpeg[2..]].concat();
            has_more(&[&first[..], &jpeg].concat(), 9)
        };
        // A preview in a segment is not another image; those of a camera have a list.
        let preview = b"\xFF\xE1\0\x0C\xFF\xD8\xFF\xD9\xFF\xD8\xFF\xD9\0\0";
        let alone = [&jpeg[..2], preview, &jpeg[2..]].concat();
        assert!(!has_more(&alone, 9) && both(preview));
        assert!(both(b"\xFF\xE2\0\x08ICC_PR"));
        assert!(!both(b"\xFF\xE2\0\x08MPF\0MM"));
        let comment = b"P2 # P5 in a comment\n1 1 9 5\n";
        assert!(!has_more(comment, 9));
    }
}
