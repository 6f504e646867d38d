//! The images that a folder is timed on.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use candle_core::{Device, Tensor};
use tempfile::TempDir;

use crate::input::image::{DecodeOptions, RgbImage};
use crate::input::paths::ImageSource;
use crate::input::preprocess::Preprocess;
use crate::input::{image, paths};
use crate::run::images::IMAGES;

const COUNT: usize = 32;
const WIDTH: usize = 640;
const HEIGHT: usize = 480;
const QUALITY: u8 = 90;

/// A folder of images; a generated one is removed on drop.
pub(super) struct Folder {
    pub(super) path: PathBuf,
    /// A description for display.
    pub(super) description: String,
    _made: Option<TempDir>,
}

impl Folder {
    /// The user's folder, or one with generated images.
    pub(super) fn open(path: Option<&Path>) -> Result<Self> {
        if let Some(path) = path {
            return Ok(Self {
                path: path.to_owned(),
                description: path.display().to_string(),
                _made: None,
            });
        }
        let folder = tempfile::tempdir().context("cannot create a folder for images")?;
        for number in 0..COUNT {
            let file = folder.path().join(format!("{number:02}.jpg"));
            let bytes = image::to_jpeg(&made(number), QUALITY)?;
            std::fs::write(&file, bytes).context("cannot write a generated image")?;
        }
        Ok(Self {
            path: folder.path().to_owned(),
            description: format!("{COUNT} generated JPEGs of {WIDTH} x {HEIGHT}"),
            _made: Some(folder),
        })
    }

    /// The pixels of the first `count` images that decode, repeated if there are fewer: `[count, 3,
    /// image_size, image_size]`.
    pub(super) fn pixels(&self, count: usize, preprocess: &Preprocess) -> Result<Tensor> {
        let mut failure = None;
        let mut images = Vec::new();
        for source in paths::expand(vec![self.path.clone()], None, IMAGES)? {
            let read = match source {
                Ok(ImageSource::Path(path)) => image::read(&path, &DecodeOptions::default())
                    .with_context(|| path.display().to_string()),
                Ok(ImageSource::Stdin) => continue,
                Err(error) => Err(error.into()),
            };
            match read {
                Ok(decoded) => images.push(preprocess.run(&decoded.image)),
                Err(error) => failure = Some(error),
            }
            if images.len() == count {
                break;
            }
        }
        if images.is_empty() {
            let cause = failure.unwrap_or_else(|| anyhow::anyhow!("it has none"));
            let shown = self.path.display();
            return Err(cause.context(format!("no image in {shown}; pass a folder of images")));
        }
        let pixels: Vec<f32> = images
            .iter()
            .cycle()
            .take(count)
            .flatten()
            .copied()
            .collect();
        let side = preprocess.image_size;
        Ok(Tensor::from_vec(
            pixels,
            (count, 3, side, side),
            &Device::Cpu,
        )?)
    }
}

/// A smooth gradient with some grain, to load a decoder like a photograph.
fn made(number: usize) -> RgbImage {
    let mut state = number as u32 + 1;
    let mut grain = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 28) as f32
    };
    let waves = [0.011, 0.017, 0.023].map(|wave| wave * (1.0 + number as f32 / COUNT as f32));
    let mut pixels = Vec::with_capacity(WIDTH * HEIGHT * 3);
    for y in 0..HEIGHT {
        for x in 0..WIDTH {
            for wave in waves {
                let shade = (x as f32 * wave).sin() + (y as f32 * wave * 0.7).cos();
                pixels.push((120.0 + 50.0 * shade + grain()) as u8);
            }
        }
    }
    RgbImage {
        width: WIDTH,
        height: HEIGHT,
        pixels,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generated_images_are_read_back_and_differ() {
        let folder = Folder::open(None).unwrap();
        let pixels = folder.pixels(2, &Preprocess::clip(32)).unwrap();
        assert_eq!(pixels.dims(), [2, 3, 32, 32]);
        let rows = pixels.flatten_from(1).unwrap().to_vec2::<f32>().unwrap();
        assert_ne!(rows[0], rows[1]);
        let path = folder.path.clone();
        assert_eq!(std::fs::read_dir(&path).unwrap().count(), COUNT);
        drop(folder);
        assert!(!path.exists());
    }

    #[test]
    fn few_images_are_repeated_and_none_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let open = || Folder::open(Some(folder.path())).unwrap();
        let error = open().pixels(2, &Preprocess::clip(32)).unwrap_err();
        assert!(error.to_string().contains("no image in"), "{error}");
        let jpeg = image::to_jpeg(&made(0), QUALITY).unwrap();
        std::fs::write(folder.path().join("a.jpg"), jpeg).unwrap();
        std::fs::write(folder.path().join("b.jpg"), b"no image").unwrap();
        let pixels = open().pixels(3, &Preprocess::clip(32)).unwrap();
        let rows = pixels.flatten_from(1).unwrap().to_vec2::<f32>().unwrap();
        assert_eq!((rows.len(), &rows[0]), (3, &rows[2]));
    }
}
