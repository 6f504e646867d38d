//! Images for the pages: the demo photographs and drawn shapes, with noise, in many colours.

use std::path::Path;

use anyhow::Result;
use longclip::input::image::{DecodeOptions, RgbImage, read, thumbnail};
use rand::Rng;
use rand_chacha::ChaCha8Rng;

/// The demo photographs.
pub(crate) fn photographs() -> Result<Vec<RgbImage>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/demo");
    let names = ["chelsea.png", "coffee.jpg", "rocket.jpg"];
    let read = |name| Ok(read(&folder.join(name), &DecodeOptions::default())?.image);
    names.into_iter().map(read).collect()
}

/// A thumbnail for an image of `class`: one of ten shapes in a colour of its own, or for the first
/// classes a crop of a photograph.
pub(crate) fn draw(
    class: usize,
    photographs: &[RgbImage],
    random: &mut ChaCha8Rng,
) -> Result<Vec<u8>> {
    let image = match photographs.get(class % 10) {
        Some(photograph) => piece(photograph, random),
        None => shape(class, random),
    };
    thumbnail(&image, 128)
}

fn piece(photograph: &RgbImage, random: &mut ChaCha8Rng) -> RgbImage {
    let width = random.random_range(photograph.width / 2..photograph.width);
    let height = random.random_range(photograph.height / 2..photograph.height);
    let left = random.random_range(0..photograph.width - width);
    let top = random.random_range(0..photograph.height - height);
    let row = |y: usize| {
        let start = ((top + y) * photograph.width + left) * 3;
        photograph.pixels[start..start + width * 3].to_vec()
    };
    RgbImage {
        width,
        height,
        pixels: (0..height).flat_map(row).collect(),
    }
}

fn shape(class: usize, random: &mut ChaCha8Rng) -> RgbImage {
    let (width, height) = (random.random_range(90..260), random.random_range(90..200));
    let (x0, y0) = (
        random.random_range(0.35..0.65),
        random.random_range(0.35..0.65),
    );
    let size = random.random_range(0.2..0.4f32);
    let hue = class as f32 * 0.618_034 + random.random_range(-0.04..0.04);
    let colour = |hue: f32, light: f32| {
        [0.0, 0.33, 0.67].map(|part| {
            let wave = (std::f32::consts::TAU * (hue + part)).cos();
            (light * (150.0 + 90.0 * wave)).clamp(0.0, 255.0) as u8
        })
    };
    let side = width.min(height) as f32;
    let mut pixels = Vec::with_capacity(width * height * 3);
    for y in 0..height {
        for x in 0..width {
            let across = (x as f32 - x0 * width as f32) / side / size;
            let down = (y as f32 - y0 * height as f32) / side / size;
            let light = 0.75 + 0.4 * y as f32 / height as f32 + random.random_range(-0.06..0.06);
            let ground = colour(hue + 0.5, 0.55 * light);
            let inside = is_inside(class, across, down);
            pixels.extend(if inside { colour(hue, light) } else { ground });
        }
    }
    RgbImage {
        width,
        height,
        pixels,
    }
}

fn is_inside(class: usize, x: f32, y: f32) -> bool {
    let radius = x.hypot(y);
    match class % 7 {
        0 => radius < 1.0,
        1 => x.abs() + y.abs() < 1.1,
        2 => y < 0.8 && y > 2.0 * x.abs() - 1.0,
        3 => x.abs().max(y.abs()) < 0.9,
        4 => radius < 1.0 && radius > 0.55,
        5 => radius < 0.6 + 0.4 * (5.0 * y.atan2(x)).cos(),
        _ => x.abs() < 1.0 && y.abs() < 0.9 && (y * 8.0).sin() > 0.0,
    }
}
