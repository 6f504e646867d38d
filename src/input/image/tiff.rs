//! TIFF: through the `image` crate, except for pictures stored as tiles of single channels, on which
//! it panics; those are put together here.

use std::io::Cursor;

use anyhow::{Context, Result, bail};
use image::metadata::Orientation;
use image::{DynamicImage, ImageBuffer};
use tiff::ColorType;
use tiff::decoder::{ChunkType, Decoder, DecodingResult};
use tiff::tags::{PlanarConfiguration, Tag};

use super::format::Format;
use super::general::{self, one_line};
use super::{DecodeOptions, Raw, check_size};

/// The value of ExtraSamples for colours multiplied by alpha.
const ASSOCIATED_ALPHA: u16 = 1;

type Reader<'a> = Decoder<Cursor<&'a [u8]>>;

/// Decodes the first picture of a TIFF file.
pub(super) fn decode(bytes: &[u8], options: &DecodeOptions) -> Result<Raw> {
    let mut reader = Decoder::new(Cursor::new(bytes)).map_err(damaged)?;
    let (width, height) = reader.dimensions().map_err(damaged)?;
    check_size(width, height, options)?;
    let is_premultiplied = matches!(
        reader.find_tag_unsigned_vec::<u16>(Tag::ExtraSamples),
        Ok(Some(kinds)) if kinds.first() == Some(&ASSOCIATED_ALPHA)
    );
    let mut raw = match planar_channels(&mut reader)? {
        Some(channels) => assemble(&mut reader, (width, height), channels)?,
        None => general::decode(Format::Tiff, bytes, options)?,
    };
    if is_premultiplied && raw.image.color().has_alpha() {
        raw.image = unmultiply(raw.image);
    }
    Ok(raw)
}

/// Colours stored multiplied by alpha, made plain as Pillow does it: in 8 bits, cutting off.
fn unmultiply(image: DynamicImage) -> DynamicImage {
    let mut image = image.into_rgba8();
    for pixel in image.pixels_mut() {
        let [.., alpha] = pixel.0;
        if alpha != 0 {
            let plain = |sample: u8| (u32::from(sample) * 255 / u32::from(alpha)).min(255) as u8;
            pixel.0[..3]
                .iter_mut()
                .for_each(|sample| *sample = plain(*sample));
        }
    }
    DynamicImage::ImageRgba8(image)
}

fn read_orientation(reader: &mut Reader) -> Orientation {
    let value = reader.find_tag_unsigned::<u8>(Tag::Orientation);
    let orientation = value.ok().flatten().and_then(Orientation::from_exif);
    orientation.unwrap_or(Orientation::NoTransforms)
}

fn damaged(error: tiff::TiffError) -> anyhow::Error {
    general::damaged(Format::Tiff, &one_line(&error.to_string()))
}

/// 3 or 4 when the picture is RGB or RGBA in tiles of single channels.
fn planar_channels(reader: &mut Reader) -> Result<Option<usize>> {
    let planar = reader
        .find_tag_unsigned::<u16>(Tag::PlanarConfiguration)
        .map_err(damaged)?;
    let is_planar = planar == Some(PlanarConfiguration::Planar.to_u16());
    if !is_planar || reader.get_chunk_type() != ChunkType::Tile {
        return Ok(None);
    }
    Ok(match reader.colortype().map_err(damaged)? {
        ColorType::RGB(8 | 16) => Some(3),
        ColorType::RGBA(8 | 16) => Some(4),
        _ => None,
    })
}

/// Reads all tiles: first those of red, left to right and top to bottom, then those of green, ….
fn assemble(reader: &mut Reader, (width, height): (u32, u32), channels: usize) -> Result<Raw> {
    let (tile_width, tile_height) = reader.chunk_dimensions();
    let (across, down) = (width.div_ceil(tile_width), height.div_ceil(tile_height));
    let mut samples = vec![0_u16; width as usize * height as usize * channels];
    for channel in 0..channels {
        for tile in 0..across * down {
            let index = channel as u32 * across * down + tile;
            let (columns, _) = reader.chunk_data_dimensions(index);
            let (left, top) = (tile % across * tile_width, tile / across * tile_height);
            let values = widen(reader.read_chunk(index).map_err(damaged)?)?;
            let rows = values.chunks_exact(columns as usize);
            for (row, y) in rows.zip((top..height).take(tile_height as usize)) {
                let first = (y as usize * width as usize + left as usize) * channels + channel;
                let targets = samples[first..].iter_mut().step_by(channels);
                targets.zip(row).for_each(|(to, from)| *to = *from);
            }
        }
    }
    let orientation = read_orientation(reader);
    let image = match channels {
        3 => ImageBuffer::from_raw(width, height, samples).map(DynamicImage::ImageRgb16),
        _ => ImageBuffer::from_raw(width, height, samples).map(DynamicImage::ImageRgba16),
    };
    Ok(Raw {
        image: image.context("the TIFF decoder gave another size than the header's")?,
        orientation,
        warnings: Vec::new(),
    })
}

/// 8-bit samples as 16 bits, which scale back exactly.
fn widen(values: DecodingResult) -> Result<Vec<u16>> {
    match values {
        DecodingResult::U8(values) => Ok(values.into_iter().map(|v| u16::from(v) * 257).collect()),
        DecodingResult::U16(values) => Ok(values),
        _ => bail!(
            "a kind of TIFF that is not supported (tiles of floating point or signed numbers); save it anew as PNG or JPEG"
        ),
    }
}
