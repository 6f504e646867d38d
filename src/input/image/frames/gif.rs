//! The frames of a GIF.
//!
//! A place that is restored to the background becomes transparent if the frame has transparent
//! pixels, else it takes the background colour, as in Pillow. A frame without a disposal is kept,
//! where Pillow repeats the last one given.

use std::io::Cursor;

use anyhow::{Result, ensure};
use gif::{ColorOutput, DecodeOptions, Decoder, DisposalMethod};

use super::super::format::Format;
use super::super::gif::{MAX_PIXELS_PER_BYTE, explain};
use super::super::orient;
use super::canvas::{Animation, Disposal, Piece, Pieces, Place};

/// The byte that ends a file.
pub(super) const TRAILER: u8 = b';';

pub(super) struct Gif {
    decoder: Decoder<Cursor<Vec<u8>>>,
    file_bytes: u64,
    is_first: bool,
}

/// The number of frames, of which the last may be damaged.
pub(super) fn count(bytes: &[u8]) -> u64 {
    let mut options = DecodeOptions::new();
    options.skip_frame_decoding(true);
    let Ok(mut decoder) = options.read_info(bytes) else {
        return 0;
    };
    let mut count = 0;
    loop {
        match decoder.next_frame_info() {
            Ok(Some(_)) => count += 1,
            Ok(None) => return count,
            Err(_) if count > 0 && lacks_trailer(bytes) => return count,
            // Something follows, and reading it says what is wrong with it.
            Err(_) if count > 0 => return count + 1,
            Err(_) => return 0,
        }
    }
}

/// Whether the file ends after a complete block, but not with the byte that ends a file.
pub(super) fn lacks_trailer(bytes: &[u8]) -> bool {
    let table = |flags: u8| match flags & 0x80 {
        0 => 0,
        _ => 3 << ((flags & 7) + 1),
    };
    let mut at = 13 + bytes.get(10).map_or(0, |flags| table(*flags));
    loop {
        at += match bytes.get(at..) {
            Some([]) => return true,
            Some([b'!', ..]) => 2,
            Some([b',', frame @ ..]) => 11 + frame.get(8).map_or(0, |flags| table(*flags)),
            _ => return false,
        };
        while let Some(length) = bytes.get(at) {
            at += 1 + usize::from(*length);
            if *length == 0 {
                break;
            }
        }
    }
}

pub(super) fn open(bytes: Vec<u8>) -> Result<Box<dyn super::Series>> {
    let mut options = DecodeOptions::new();
    options.set_color_output(ColorOutput::RGBA);
    let file_bytes = bytes.len();
    let decoder = options.read_info(Cursor::new(bytes)).map_err(explain)?;
    let orientation = orient::of(None, decoder.xmp_metadata());
    let size = (decoder.width().into(), decoder.height().into());
    let gif = Gif {
        decoder,
        file_bytes: file_bytes as u64,
        is_first: true,
    };
    Ok(Box::new(Animation::new(
        gif,
        Format::Gif,
        orientation,
        size,
        file_bytes,
    )))
}

impl Pieces for Gif {
    const SCRATCH: (u64, u64) = (0, 1);

    fn next(&mut self) -> Result<Option<Piece>> {
        let Some(frame) = self.decoder.next_frame_info().map_err(explain)? else {
            return Ok(None);
        };
        let (method, transparent) = (frame.dispose, frame.transparent);
        let place = Place {
            left: frame.left.into(),
            top: frame.top.into(),
            width: frame.width.into(),
            height: frame.height.into(),
        };
        let seconds = f64::from(frame.delay) / 100.0;
        let pixels = place.width as u64 * place.height as u64;
        ensure!(
            pixels / MAX_PIXELS_PER_BYTE <= self.file_bytes,
            Format::Gif.hollow(place.width as u32, place.height as u32)
        );
        // Around the first frame the canvas is transparent, and so are its own transparent pixels.
        let blends = !std::mem::replace(&mut self.is_first, false);
        Ok(Some(Piece {
            place,
            blends,
            disposal: match method {
                DisposalMethod::Any | DisposalMethod::Keep => Disposal::Keep,
                DisposalMethod::Background => self.background(transparent),
                DisposalMethod::Previous => Disposal::Restore,
            },
            seconds,
        }))
    }

    fn pixels(&mut self, piece: &Piece) -> Result<Vec<u8>> {
        let mut pixels = vec![0; piece.place.width * piece.place.height * 4];
        self.decoder
            .read_into_buffer(&mut pixels)
            .map_err(explain)?;
        Ok(pixels)
    }

    fn mix(over: [u8; 4], _: [u8; 4]) -> [u8; 4] {
        over // there is no partial transparency
    }
}

impl Gif {
    fn background(&self, transparent: Option<u8>) -> Disposal {
        let index = match transparent {
            Some(index) => index.into(),
            None => self.decoder.bg_color().unwrap_or(0),
        };
        let palette = self.decoder.palette().unwrap_or_default();
        let colour = palette.chunks_exact(3).nth(index).unwrap_or(&[0; 3]);
        let alpha = if transparent.is_some() { 0 } else { 255 };
        Disposal::Fill([colour[0], colour[1], colour[2], alpha])
    }
}
