//! RGB -> bytes of an image file.

use ::image::ExtendedColorType;
use ::image::codecs::jpeg::JpegEncoder;
use anyhow::{Context, Result};

use super::RgbImage;

/// The image as a JPEG file of `quality` 1..=100.
///
/// # Errors
/// When a side is zero or longer than JPEG's 65535.
pub fn to_jpeg(image: &RgbImage, quality: u8) -> Result<Vec<u8>> {
    let (width, height) = (u32::try_from(image.width)?, u32::try_from(image.height)?);
    let mut bytes = Vec::new();
    JpegEncoder::new_with_quality(&mut bytes, quality)
        .encode(&image.pixels, width, height, ExtendedColorType::Rgb8)
        .with_context(|| format!("cannot write {width} x {height} pixels as JPEG"))?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::super::{DecodeOptions, decode};
    use super::*;

    #[test]
    fn written_images_are_read_back() {
        let shade = |at: usize| [at as u8 * 4, 128, 255 - at as u8 * 4];
        let image = RgbImage {
            width: 32,
            height: 16,
            pixels: (0..512).flat_map(|pixel| shade(pixel % 32)).collect(),
        };
        let bytes = to_jpeg(&image, 95).unwrap();
        let back = decode(&bytes, &DecodeOptions::default()).unwrap();
        assert_eq!((back.format, back.stored_size), ("jpeg", (32, 16)));
        let differences = image.pixels.iter().zip(&back.image.pixels);
        let worst = differences.map(|(a, b)| a.abs_diff(*b)).max();
        assert!(worst < Some(12), "{worst:?}");
    }

    #[test]
    fn an_image_without_pixels_is_refused() {
        let nothing = RgbImage {
            width: 0,
            height: 0,
            pixels: Vec::new(),
        };
        assert!(to_jpeg(&nothing, 90).is_err());
    }
}
