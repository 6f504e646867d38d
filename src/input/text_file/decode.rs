//! The bytes of a text file -> UTF-8, for the encodings that editors and spreadsheets write.
//!
//! Looks at no more than the first line before it passes anything on, so that a list from a pipe
//! that stays open is read as it comes.

use std::io::{self, Read};

/// How much of a file is examined: the first line, but at most this.
const SAMPLE_BYTES: usize = 64 * 1024;
/// Pairs of bytes from which on a text without any line end counts as UTF-16.
const LEAST_PAIRS: usize = 4;

/// Encoding of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Encoding {
    /// Bytes that are passed on unchanged: UTF-8, or not text at all.
    Bytes,
    Utf16Le,
    Utf16Be,
}

/// Meaning of a lone carriage return in a file without newlines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LoneReturn {
    /// It ends a line, as on old Macs.
    EndsLine,
    /// It is a character like any other.
    IsText,
}

/// A text file as UTF-8 without its byte order mark. Bytes that are not text are passed on
/// unchanged (a lone UTF-16 surrogate as the three bytes that are not UTF-8), so that the reader
/// can report their line.
pub(crate) struct Decoded<R> {
    reader: R,
    lone_return: LoneReturn,
    encoding: Option<Encoding>,
    guess: Option<&'static str>,
    returns_end_lines: bool,
    ready: Vec<u8>,
    taken: usize,
    /// The first byte of a pair, and the first unit of a surrogate pair.
    byte: Option<u8>,
    high: Option<u16>,
    ended: bool,
}

impl<R: Read> Decoded<R> {
    /// Nothing is read before the first call.
    pub(crate) fn new(reader: R, lone_return: LoneReturn) -> Self {
        Self {
            reader,
            lone_return,
            encoding: None,
            guess: None,
            returns_end_lines: false,
            ready: Vec::new(),
            taken: 0,
            byte: None,
            high: None,
            ended: false,
        }
    }

    /// Notes on what was guessed about the file, once some of it was read.
    pub(crate) fn guess(&self) -> Option<&'static str> {
        self.guess
    }

    fn begin(&mut self) -> io::Result<()> {
        let sample = self.sample()?;
        let (encoding, mark) = detect(&sample)?;
        self.encoding = Some(encoding);
        if encoding != Encoding::Bytes && mark == 0 {
            self.guess = Some("it has no byte order mark; it is read as UTF-16");
        }
        self.decode(sample.get(mark..).unwrap_or_default());
        self.returns_end_lines = self.lone_return == LoneReturn::EndsLine
            && self.ready.contains(&b'\r')
            && !self.ready.contains(&b'\n');
        if self.returns_end_lines {
            self.guess = Some("it has no newlines; its lines end in carriage returns");
            replace_returns(&mut self.ready);
        }
        Ok(())
    }

    /// The first line and what came with it.
    fn sample(&mut self) -> io::Result<Vec<u8>> {
        let mut sample = Vec::new();
        let mut chunk = vec![0; 8192];
        while sample.len() < SAMPLE_BYTES && !holds_a_line(&sample) {
            match self.reader.read(&mut chunk) {
                Ok(0) => {
                    self.ended = true;
                    break;
                }
                Ok(count) => sample.extend_from_slice(chunk.get(..count).unwrap_or_default()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(sample)
    }

    fn decode(&mut self, bytes: &[u8]) {
        let from = self.ready.len();
        match self.encoding {
            None | Some(Encoding::Bytes) => self.ready.extend_from_slice(bytes),
            Some(encoding) => {
                for &byte in bytes {
                    let Some(first) = self.byte.take() else {
                        self.byte = Some(byte);
                        continue;
                    };
                    self.push(match encoding {
                        Encoding::Utf16Be => u16::from_be_bytes([first, byte]),
                        _ => u16::from_le_bytes([first, byte]),
                    });
                }
            }
        }
        if self.returns_end_lines {
            replace_returns(self.ready.get_mut(from..).unwrap_or_default());
        }
    }

    /// Processes one UTF-16 unit.
    fn push(&mut self, unit: u16) {
        if let Some(high) = self.high.take() {
            if let Some(Ok(both)) = char::decode_utf16([high, unit]).next() {
                return self.push_char(both);
            }
            self.push_surrogate(high);
        }
        match (unit, char::from_u32(u32::from(unit))) {
            (0xd800..=0xdbff, _) => self.high = Some(unit),
            (_, Some(character)) => self.push_char(character),
            (_, None) => self.push_surrogate(unit),
        }
    }

    fn push_char(&mut self, character: char) {
        let mut bytes = [0; 4];
        let text = character.encode_utf8(&mut bytes);
        self.ready.extend_from_slice(text.as_bytes());
    }

    /// The form that UTF-8 forbids, which makes the line invalid UTF-8.
    fn push_surrogate(&mut self, unit: u16) {
        let [high, low] = unit.to_be_bytes();
        self.ready.extend([
            0xe0 | high >> 4,
            0x80 | (high & 0x0f) << 2 | low >> 6,
            0x80 | low & 0x3f,
        ]);
    }

    /// The rest if the file ends in the middle of a character.
    fn end(&mut self) {
        if let Some(high) = self.high.take() {
            self.push_surrogate(high);
        }
        if self.byte.take().is_some() {
            self.ready.push(0xff);
        }
    }
}

impl<R: Read> Read for Decoded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.encoding.is_none() {
            self.begin()?;
        }
        loop {
            let mut waiting = self.ready.get(self.taken..).unwrap_or_default();
            if !waiting.is_empty() {
                let count = waiting.read(buffer)?;
                self.taken += count;
                return Ok(count);
            }
            self.ready.clear();
            self.taken = 0;
            if self.ended {
                self.end();
                if self.ready.is_empty() {
                    return Ok(0);
                }
                continue;
            }
            let mut chunk = vec![0; 8192.max(buffer.len().min(SAMPLE_BYTES))];
            let count = self.reader.read(&mut chunk)?;
            self.ended = count == 0;
            self.decode(chunk.get(..count).unwrap_or_default());
        }
    }
}

fn replace_returns(bytes: &mut [u8]) {
    for byte in bytes.iter_mut().filter(|byte| **byte == b'\r') {
        *byte = b'\n';
    }
}

/// Whether the first line is complete; in UTF-16 with the byte after its newline.
fn holds_a_line(sample: &[u8]) -> bool {
    let newline = sample.iter().position(|byte| *byte == b'\n');
    newline.is_some_and(|at| sample.len() > at + 1 || !sample.contains(&0))
}

/// The encoding of the file, and the length of its byte order mark.
fn detect(sample: &[u8]) -> io::Result<(Encoding, usize)> {
    match sample {
        [0xff, 0xfe, 0, 0, ..] | [0, 0, 0xfe, 0xff, ..] => Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "the file is UTF-32; save it as UTF-8",
        )),
        [0xff, 0xfe, ..] => Ok((Encoding::Utf16Le, 2)),
        [0xfe, 0xff, ..] => Ok((Encoding::Utf16Be, 2)),
        [0xef, 0xbb, 0xbf, ..] => Ok((Encoding::Bytes, 3)),
        _ => Ok((without_mark(sample), 0)),
    }
}

/// UTF-16 shows by its NULs, which UTF-8 text does not contain: every newline has one, and in
/// European languages most letters, all on one side of the pairs. A NUL-separated list has them
/// anywhere.
fn without_mark(sample: &[u8]) -> Encoding {
    let pairs = || sample.as_chunks().0.iter();
    let count = pairs().count();
    let little = pairs()
        .filter(|[low, high]| *low != 0 && *high == 0)
        .count();
    let big = pairs()
        .filter(|[high, low]| *high == 0 && *low != 0)
        .count();
    let has_newline = |newline: &[u8; 2]| pairs().any(|pair: &[u8; 2]| pair == newline);
    let newlines = (has_newline(b"\n\0"), has_newline(b"\0\n"));
    let is_all = |own: usize| own == count && count >= LEAST_PAIRS;
    let is_much = |own: usize| own * 2 > count || std::str::from_utf8(sample).is_err();
    match newlines {
        (true, false) if little >= big && is_much(little) => Encoding::Utf16Le,
        (false, true) if big >= little && is_much(big) => Encoding::Utf16Be,
        (false, false) if is_all(little) => Encoding::Utf16Le,
        (false, false) if is_all(big) => Encoding::Utf16Be,
        _ => Encoding::Bytes,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Yields one byte at a time, like the slowest pipe.
    struct Slow<'a>(&'a [u8]);

    impl Read for Slow<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let count = buffer.len().min(1);
            self.0.read(&mut buffer[..count])
        }
    }

    fn utf16(text: &str, little: bool, mark: bool) -> Vec<u8> {
        let marked = if mark {
            format!("\u{feff}{text}")
        } else {
            text.to_owned()
        };
        let units = marked.encode_utf16();
        units
            .flat_map(|unit| {
                if little {
                    unit.to_le_bytes()
                } else {
                    unit.to_be_bytes()
                }
            })
            .collect()
    }

    fn decoded(bytes: &[u8]) -> (Vec<u8>, Option<&'static str>) {
        let mut slow = Vec::new();
        let mut reader = Decoded::new(Slow(bytes), LoneReturn::EndsLine);
        reader.read_to_end(&mut slow).unwrap();
        let mut fast = Vec::new();
        let mut reader = Decoded::new(bytes, LoneReturn::EndsLine);
        reader.read_to_end(&mut fast).unwrap();
        assert_eq!(slow, fast);
        (fast, reader.guess())
    }

    #[test]
    fn utf16_becomes_utf8_with_a_mark_and_without() {
        for text in [
            "cat\r\ndog\n",
            "Möwe\n猫\n👍\n",
            "猫 がいる\n犬\n",
            "a cat",
            "é\n",
        ] {
            for (little, mark) in [(true, true), (true, false), (false, true), (false, false)] {
                let (found, guess) = decoded(&utf16(text, little, mark));
                assert_eq!(String::from_utf8_lossy(&found), text, "{little} {mark}");
                assert_eq!(guess.is_some(), !mark);
            }
        }
    }

    #[test]
    fn other_bytes_are_passed_on() {
        let cases: [(&[u8], &[u8]); 9] = [
            (b"", b""),
            (b"\xef\xbb\xbfcat\n", b"cat\n"),
            (b"caf\xe9\n", b"caf\xe9\n"),
            (b"a\0b\0", b"a\0b\0"),
            (b"abcd\n\0dog\n", b"abcd\n\0dog\n"),
            (
                b"./a.jpg\0./bc.jpg\0./d.jpg\0",
                b"./a.jpg\0./bc.jpg\0./d.jpg\0",
            ),
            // Half a surrogate pair, and half a unit.
            (b"\xff\xfe\x3d\xd8a\0", b"\xed\xa0\xbda"),
            (b"\xff\xfea\0\x3d\xd8", b"a\xed\xa0\xbd"),
            (b"\xff\xfea\0b", b"a\xff"),
        ];
        for (bytes, expected) in cases {
            let (found, guess) = decoded(bytes);
            assert_eq!(found, expected, "{bytes:?}");
            assert_eq!(guess, None);
        }
        let error = Decoded::new(&b"\xff\xfe\0\0a\0\0\0"[..], LoneReturn::IsText)
            .read_to_end(&mut Vec::new())
            .unwrap_err();
        assert!(error.to_string().contains("UTF-32"));
    }

    #[test]
    fn lone_returns_end_lines_if_there_are_no_newlines() {
        assert_eq!(decoded(b"cat\rdog\r").0, b"cat\ndog\n");
        assert!(decoded(b"cat\rdog\r").1.is_some());
        assert_eq!(decoded(b"cat\rdog\n").0, b"cat\rdog\n");
        let mut text = String::new();
        Decoded::new(&b"cat\rdog"[..], LoneReturn::IsText)
            .read_to_string(&mut text)
            .unwrap();
        assert_eq!(text, "cat\rdog");
    }

    #[test]
    fn the_first_line_is_passed_on_before_the_second_comes() {
        struct Once(Option<&'static [u8]>);
        impl Read for Once {
            fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                let bytes = self
                    .0
                    .take()
                    .expect("it waits for more than the first line");
                buffer[..bytes.len()].copy_from_slice(bytes);
                Ok(bytes.len())
            }
        }
        for line in [&b"a.jpg\n"[..], b"a\0.\0j\0p\0g\0\n\0", b"\xff\xfea\0\n\0"] {
            let mut reader = Decoded::new(Once(Some(line)), LoneReturn::IsText);
            let mut buffer = [0; 64];
            let count = reader.read(&mut buffer).unwrap();
            assert_eq!(buffer[..count].last(), Some(&b'\n'));
        }
    }
}
