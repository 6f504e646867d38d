//! Y4M: uncompressed video, as `ffmpeg -f yuv4mpegpipe` writes it.
//!
//! The stream does not name its matrix, so it is BT.601's, as in ffmpeg. Chroma is not
//! interpolated: where ffmpeg turns such a stream into RGB, it does not do that either.

use std::io::{BufRead, Read as _};

use anyhow::{Context as _, Result, bail, ensure};

use super::super::rows::{Frame, Rows, band_rows};
use super::super::{DecodeOptions, Facts, RgbImage, check_size};
use super::{CUT, Passed, Series, fill, pass_over};

const MAGIC: &[u8] = b"YUV4MPEG2 ";

/// Longer lines are refused; ffmpeg's have less than a hundred bytes.
const LONGEST_LINE: u64 = 4096;

/// Whether a file or stream with these first bytes is such a video.
pub(super) fn is_y4m(start: &[u8]) -> bool {
    start.starts_with(MAGIC)
}

/// A video in progress.
pub(super) struct Y4m<R> {
    stream: R,
    layout: Layout,
    colours: Colours,
    /// Frames per second, as a fraction.
    rate: Option<(u64, u64)>,
    count: u64,
    /// The planes of a frame.
    samples: Vec<u8>,
}

/// How the samples of a frame are stored: a plane of luma, and two of chroma unless it is grey.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Layout {
    width: usize,
    height: usize,
    /// Columns and rows of luma per sample of chroma.
    chroma: Option<(usize, usize)>,
    has_alpha: bool,
}

impl Layout {
    fn luma(&self) -> usize {
        self.width * self.height
    }

    /// Columns and rows of a plane of chroma.
    fn chroma_size(&self) -> (usize, usize) {
        self.chroma.map_or((0, 0), |(x, y)| {
            (self.width.div_ceil(x), self.height.div_ceil(y))
        })
    }

    /// Bytes of a frame.
    fn bytes(&self) -> usize {
        let (columns, rows) = self.chroma_size();
        let planes = if self.has_alpha { 2 } else { 1 };
        planes * self.luma() + 2 * columns * rows
    }
}

/// YCbCr of BT.601 -> RGB, in 65536ths.
#[derive(Debug, Clone, Copy)]
struct Colours {
    black: i32,
    luma: i32,
    red: i32,
    green: (i32, i32),
    blue: i32,
}

impl Colours {
    /// Luma from 16 to 235, chroma from 16 to 240.
    const LIMITED: Self = Self {
        black: 16,
        luma: 76_309,
        red: 104_597,
        green: (25_675, 53_279),
        blue: 132_201,
    };
    /// All of them from 0 to 255.
    const FULL: Self = Self {
        black: 0,
        luma: 65_536,
        red: 91_881,
        green: (22_554, 46_802),
        blue: 116_130,
    };

    fn rgb(&self, luma: u8, blue: u8, red: u8) -> [u8; 3] {
        let light = (i32::from(luma) - self.black) * self.luma + (1 << 15);
        let (blue, red) = (i32::from(blue) - 128, i32::from(red) - 128);
        let green = light - self.green.0 * blue - self.green.1 * red;
        [light + self.red * red, green, light + self.blue * blue]
            .map(|sample| (sample >> 16).clamp(0, 255) as u8)
    }
}

impl<R: BufRead> Y4m<R> {
    pub(super) fn open(mut stream: R, options: &DecodeOptions) -> Result<Self> {
        let line = line(&mut stream)?.context(CUT)?;
        let mut size = [0; 2];
        let mut coding = "420".to_owned();
        let (mut colours, mut rate) = (None, None);
        let words = line.get(MAGIC.len()..).unwrap_or_default().split(' ');
        for word in words.filter(|word| !word.is_empty()) {
            let (tag, value) = word
                .split_at_checked(1)
                .context("the Y4M header is damaged")?;
            match tag {
                "W" => size[0] = value.parse().unwrap_or(0),
                "H" => size[1] = value.parse().unwrap_or(0),
                "C" => coding = value.to_owned(),
                "F" => rate = fraction(value),
                "X" if value == "COLORRANGE=FULL" => colours = Some(Colours::FULL),
                "X" if value == "COLORRANGE=LIMITED" => colours = Some(Colours::LIMITED),
                _ => {} // interlacing, the shape of pixels, comments
            }
        }
        let [width, height] = size;
        check_size(width, height, options)?;
        let (chroma, has_alpha) = match coding.as_str() {
            "420" | "420jpeg" | "420mpeg2" | "420paldv" => (Some((2, 2)), false),
            "411" => (Some((4, 1)), false),
            "422" => (Some((2, 1)), false),
            "444" => (Some((1, 1)), false),
            "444alpha" => (Some((1, 1)), true),
            "mono" => (None, false),
            other => {
                bail!("Y4M video in {other:.40} is not supported; pass -pix_fmt yuv420p to ffmpeg")
            }
        };
        Ok(Self {
            stream,
            // What ffmpeg takes, if the stream does not say.
            colours: colours.unwrap_or(match chroma {
                Some(_) => Colours::LIMITED,
                None => Colours::FULL,
            }),
            layout: Layout {
                width: width as usize,
                height: height as usize,
                chroma,
                has_alpha,
            },
            rate,
            count: 0,
            samples: Vec::new(),
        })
    }

    /// Passes the frame in `samples` on.
    fn pass_on(&self, rows: &mut dyn Rows) {
        let Layout {
            width,
            height,
            chroma,
            ..
        } = self.layout;
        let (luma, rest) = self.samples.split_at(self.layout.luma());
        let (columns, lines) = self.layout.chroma_size();
        let (blue, red) = rest.split_at(columns * lines);
        let band = band_rows(width * 3);
        let mut pixels = Vec::with_capacity(band.min(height) * width * 3);
        for top in (0..height).step_by(band) {
            pixels.clear();
            for y in top..height.min(top + band) {
                let luma = &luma[y * width..][..width];
                let Some((across, down)) = chroma else {
                    pixels.extend(luma.iter().flat_map(|l| self.colours.rgb(*l, 128, 128)));
                    continue;
                };
                let start = y / down * columns;
                let chroma = blue[start..][..columns]
                    .iter()
                    .zip(&red[start..][..columns]);
                for (luma, (blue, red)) in luma.chunks(across).zip(chroma) {
                    pixels.extend(luma.iter().flat_map(|l| self.colours.rgb(*l, *blue, *red)));
                }
            }
            rows.add(&pixels);
        }
    }
}

impl<R: BufRead> Series for Y4m<R> {
    fn next(
        &mut self,
        options: &DecodeOptions,
        to: Option<&mut dyn Rows>,
    ) -> Result<Option<Passed>> {
        let Some(start) = line(&mut self.stream)? else {
            return Ok(None);
        };
        ensure!(
            start.split(' ').next() == Some("FRAME"),
            "the Y4M data is damaged: a frame does not begin with FRAME"
        );
        let time = self.rate.map(|(frames, seconds)| {
            let time = self.count as f64 * seconds as f64 / frames as f64;
            (time * 1e6).round() / 1e6
        });
        self.count += 1;
        let bytes = self.layout.bytes();
        let Some(rows) = to else {
            pass_over(&mut self.stream, bytes as u64)?;
            return Ok(Some(Passed { time, facts: None }));
        };
        let (width, height) = (self.layout.width, self.layout.height);
        let frame = Frame::of(&RgbImage {
            width,
            height,
            pixels: Vec::new(),
        });
        let band = band_rows(width * 3) * width * 3;
        let held = (bytes + band) as u64;
        let held = held.saturating_add(rows.bytes(&frame));
        options.memory.check(held, "to decode")?;
        self.samples.resize(bytes, 0);
        fill(&mut self.stream, &mut self.samples)?;
        // Only now: others must not wait for a stream that pauses.
        let held = options.memory.decode(held)?;
        rows.start(&frame);
        self.pass_on(rows);
        let facts = Some(Facts {
            format: "y4m",
            stored_size: frame.size,
            size: frame.size,
            scale: 1,
            warnings: Vec::new(),
            held: Some(held.reduced(rows.bytes(&frame))),
        });
        Ok(Some(Passed { time, facts }))
    }
}

/// A line without its end; `None` at the end of the stream.
fn line(stream: &mut impl BufRead) -> Result<Option<String>> {
    let mut line = Vec::new();
    stream
        .take(LONGEST_LINE)
        .read_until(b'\n', &mut line)
        .context("cannot be read")?;
    match line.pop() {
        None => Ok(None),
        Some(b'\n') => Ok(Some(String::from_utf8_lossy(&line).into_owned())),
        Some(_) if line.len() as u64 + 1 < LONGEST_LINE => bail!(CUT),
        Some(_) => bail!("the Y4M data is damaged: a line is too long"),
    }
}

/// `30000:1001`; `None` if unknown.
fn fraction(text: &str) -> Option<(u64, u64)> {
    let (over, under) = text.split_once(':')?;
    let parts = (over.parse().ok()?, under.parse().ok()?);
    (parts.0 > 0 && parts.1 > 0).then_some(parts)
}

#[cfg(test)]
mod tests {
    use super::super::super::rows::Whole;
    use super::*;

    /// The first frame of a video.
    fn first(header: &str, samples: &[u8]) -> Result<Vec<u8>> {
        let bytes = [header.as_bytes(), b"\nFRAME Ip\n", samples].concat();
        let options = DecodeOptions::default();
        let mut video = Y4m::open(&bytes[..], &options)?;
        let mut whole = Whole::default();
        video.next(&options, Some(&mut whole))?.unwrap();
        assert!(video.next(&options, None)?.is_none(), "{header}");
        Ok(whole.finish().unwrap().pixels)
    }

    #[test]
    fn planes_become_pixels() {
        // Luma of 3 x 2 pixels, then both planes of chroma.
        let luma = [16, 235, 81, 126, 126, 235];
        let grey = |l: [u8; 6]| l.iter().flat_map(|l| [*l; 3]).collect::<Vec<_>>();
        let mono = grey([0, 255, 76, 128, 128, 255]);
        let header = "YUV4MPEG2 W3 H2 F25:1 Ip A1:1";
        for coding in [
            "420jpeg", "420mpeg2", "420paldv", "420", "422", "411", "444", "mono",
        ] {
            let chroma = match coding {
                "mono" => 0,
                "422" => 8,
                "411" => 4,
                "444" => 12,
                _ => 4,
            };
            let samples = [&luma[..], &vec![128; chroma]].concat();
            let header = format!("{header} C{coding} XCOLORRANGE=LIMITED");
            let found = first(&header, &samples).unwrap();
            assert_eq!(found, mono, "{coding}");
        }
        let alpha = [&luma[..], &[128; 12], &[0; 6]].concat();
        assert_eq!(first(&format!("{header} C444alpha"), &alpha).unwrap(), mono);
        let full = [&luma[..], &[128; 4]].concat();
        let full = first(&format!("{header} XCOLORRANGE=FULL"), &full).unwrap();
        assert_eq!(full, grey(luma));
        assert_eq!(first(&format!("{header} Cmono"), &luma).unwrap(), full);
        // Red on the left, blue on the right: 2 columns of chroma for 3 of luma.
        let colours = [81, 81, 41, 81, 81, 41, 90, 240, 240, 110];
        let found = first(header, &colours).unwrap();
        let row = [254, 0, 0, 254, 0, 0, 0, 0, 255];
        assert_eq!(found, [row, row].concat());
    }

    #[test]
    fn headers_that_lie_are_refused() {
        let long = format!("YUV4MPEG2 W3 H2 X{}", "x".repeat(5000));
        let cases = [
            ("YUV4MPEG2 W3", "3 x 0 pixels"),
            ("YUV4MPEG2 W-3 H2", "0 x 2 pixels"),
            ("YUV4MPEG2 W99999999999 H2", "0 x 2 pixels"),
            ("YUV4MPEG2 W999999 H999999", "exceed the limit"),
            ("YUV4MPEG2 W3 H2 C420p10", "420p10 is not supported"),
            ("YUV4MPEG2 W3 H2 C420jpeg F0:0", "ends before the frame"),
            ("YUV4MPEG2 W3 H2\nFRAM", "does not begin with FRAME"),
            ("YUV4MPEG2 W3 H2\nFRAMES", "does not begin with FRAME"),
            ("YUV4MPEG2 W3 H2\né", "does not begin with FRAME"),
            (&long, "a line is too long"),
        ];
        for (header, expected) in cases {
            let error = format!("{:#}", first(header, &[1; 4]).unwrap_err());
            assert!(error.contains(expected), "{header:.60}: {error}");
        }
    }
}
