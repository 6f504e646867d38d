//! The frames of an animated PNG. A first image that is not part of the animation is left out.

use std::io::Cursor;

use anyhow::{Result, bail, ensure};
use image::{DynamicImage, ImageBuffer};
use png::{BlendOp, ColorType, Decoder, DisposeOp, Limits, Reader, Transformations};

use super::super::format::{Format, unsupported};
use super::super::png::{SCRATCH_BYTES, Survey, check_header, explain};
use super::super::{DecodeOptions, orient};
use super::canvas::{Animation, Disposal, Piece, Pieces, Place};

pub(super) struct Png {
    reader: Reader<Cursor<Vec<u8>>>,
    /// Frames that are still to come.
    left: u32,
    is_first: bool,
    /// A frame as it is decoded: the decoder asks for room for a whole image.
    decoded: Vec<u8>,
}

/// The number of frames that the file claims.
pub(super) fn count(bytes: &[u8]) -> u64 {
    Survey::of(bytes).frames.into()
}

pub(super) fn open(bytes: Vec<u8>, options: &DecodeOptions) -> Result<Box<dyn super::Series>> {
    check_header(&bytes, options)?;
    let survey = Survey::of(&bytes);
    if options.strict && !survey.has_end {
        return Err(Format::Png.cut());
    }
    let orientation = orient::of(survey.exif.as_deref(), survey.xmp.as_deref());
    drop(survey);
    let file_bytes = bytes.len();
    let limits = Limits {
        bytes: SCRATCH_BYTES,
    };
    let mut decoder = Decoder::new_with_limits(Cursor::new(bytes), limits);
    decoder.set_ignore_text_chunk(true);
    decoder.set_ignore_iccp_chunk(true);
    decoder.set_transformations(
        Transformations::EXPAND | Transformations::STRIP_16 | Transformations::ALPHA,
    );
    let reader = decoder.read_info().map_err(explain)?;
    let Some(control) = reader.info().animation_control() else {
        bail!(Format::Png.damaged());
    };
    let (width, height) = reader.info().size();
    let png = Png {
        left: control.num_frames,
        is_first: true,
        decoded: Vec::new(),
        reader,
    };
    let size = (width as usize, height as usize);
    Ok(Box::new(Animation::new(
        png,
        Format::Png,
        orientation,
        size,
        file_bytes,
    )))
}

impl Pieces for Png {
    const SCRATCH: (u64, u64) = (4, 8);

    fn next(&mut self) -> Result<Option<Piece>> {
        let Some(left) = self.left.checked_sub(1) else {
            return Ok(None);
        };
        self.left = left;
        let is_first = std::mem::replace(&mut self.is_first, false);
        let control = match self.reader.info().frame_control {
            Some(control) if is_first => control,
            _ => *self.reader.next_frame_info().map_err(explain)?,
        };
        let denominator = match control.delay_den {
            0 => 100,
            other => other,
        };
        Ok(Some(Piece {
            place: Place {
                left: control.x_offset as usize,
                top: control.y_offset as usize,
                width: control.width as usize,
                height: control.height as usize,
            },
            blends: control.blend_op == BlendOp::Over,
            disposal: match control.dispose_op {
                DisposeOp::None => Disposal::Keep,
                DisposeOp::Background => Disposal::Fill([0; 4]),
                DisposeOp::Previous => Disposal::Restore,
            },
            seconds: f64::from(control.delay_num) / f64::from(denominator),
        }))
    }

    fn pixels(&mut self, piece: &Piece) -> Result<Vec<u8>> {
        let whole = self.reader.output_buffer_size();
        let whole = whole.ok_or_else(|| Format::Png.oversized())?;
        self.decoded.resize(whole, 0);
        let found = self.reader.next_frame(&mut self.decoded).map_err(explain)?;
        let (width, height) = (piece.place.width, piece.place.height);
        ensure!(
            (found.width as usize, found.height as usize) == (width, height),
            Format::Png.damaged()
        );
        // Interlaced, the rows are as far apart as those of a whole image.
        let columns = self.reader.info().width;
        let stride = match self.reader.info().interlaced {
            true => self.reader.output_line_size(columns),
            false => Some(found.line_size),
        };
        let stride = stride.unwrap_or(found.line_size).max(1);
        let samples = self.decoded.chunks(stride).take(height);
        let samples: Vec<u8> = samples
            .flat_map(|row| row.iter().take(found.line_size))
            .copied()
            .collect();
        let (w, h) = (found.width, found.height);
        let image = match found.color_type {
            ColorType::GrayscaleAlpha => {
                ImageBuffer::from_raw(w, h, samples).map(DynamicImage::ImageLumaA8)
            }
            ColorType::Rgba => ImageBuffer::from_raw(w, h, samples).map(DynamicImage::ImageRgba8),
            _ => bail!(unsupported("this kind of animated PNG")),
        };
        let image = image.ok_or_else(|| Format::Png.damaged())?;
        Ok(image.into_rgba8().into_raw())
    }

    /// Rounded to the nearest.
    fn mix(over: [u8; 4], under: [u8; 4]) -> [u8; 4] {
        let (top, below) = (u32::from(over[3]), u32::from(under[3]));
        // In units of 1 / 255².
        let (top, below) = (255 * top, below * (255 - top));
        let alpha = top + below;
        let mut mixed = [((alpha + 127) / 255) as u8; 4];
        for ((mixed, over), under) in mixed.iter_mut().zip(over).zip(under).take(3) {
            let sum = u32::from(over) * top + u32::from(under) * below;
            *mixed = ((sum + alpha / 2) / alpha) as u8;
        }
        mixed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pixel_is_composited_over_another() {
        #[rustfmt::skip]
        let cases = [
            // On an opaque one: (100 x 128 + 200 x 127) / 255.
            ([100, 0, 255, 128], [200, 255, 0, 255], [150, 127, 128, 255]),
            // On one as transparent: alpha is 128 + 128 x 127 / 255 = 191.75.
            ([90, 90, 90, 128], [0, 255, 90, 128], [60, 145, 90, 192]),
            ([7, 7, 7, 1], [9, 9, 9, 1], [8, 8, 8, 2]),
        ];
        for (over, under, expected) in cases {
            assert_eq!(Png::mix(over, under), expected, "{over:?} {under:?}");
        }
    }
}
