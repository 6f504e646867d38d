use std::fs;
use std::io::Cursor;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use ::image::codecs::png::{CompressionType, FilterType, PngEncoder};
use ::image::{ImageFormat, Rgb, RgbImage};
use anyhow::ensure;
use candle_core::Tensor;

use super::*;
use crate::checkpoint::architecture::Architecture;
use crate::input::paths::ImageSource;
use crate::input::tokenizer::TokenIds;

/// An image tower that counts its images, and fails on red ones.
#[derive(Default)]
struct Counting(AtomicU64);

impl DualEncoder for Counting {
    fn encode_image(&self, pixels: &Tensor) -> Result<Tensor> {
        let colours = pixels.mean((2, 3))?; // [n, 3]
        let mut rows = colours.to_vec2::<f32>()?.into_iter();
        ensure!(rows.all(|row| row[0] < 1.5), "a red image");
        let count = colours.dims()[0] as u64;
        self.0.fetch_add(count, Ordering::Relaxed);
        Ok(colours)
    }

    fn encode_text(&self, _: &[TokenIds]) -> Result<Tensor> {
        unreachable!("there are no texts")
    }

    fn logit_scale(&self) -> f32 {
        1.0
    }

    fn logit_bias(&self) -> Option<f32> {
        None
    }

    fn architecture(&self) -> &Architecture {
        unreachable!("pixels have the size of the plan")
    }
}

fn plan(threads: usize, batch_size: Option<usize>) -> Plan {
    Plan {
        decode: DecodeOptions::default(),
        preprocess: Preprocess::clip(8),
        threads,
        batch_size,
        single: false,
        frames: None,
        thumbnails: None,
        memory: None,
    }
}

/// An image that no other number gives.
fn drawn(number: u8) -> RgbImage {
    let shade = |x: u32| number * 20 + x as u8;
    RgbImage::from_fn(16, 12, |x, y| Rgb([shade(x), shade(y), 90]))
}

fn saved(image: &RgbImage, format: ImageFormat) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    image.write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

/// The same pixels as another file.
fn saved_again(image: &RgbImage) -> Vec<u8> {
    let mut bytes = Vec::new();
    let encoder =
        PngEncoder::new_with_quality(&mut bytes, CompressionType::Best, FilterType::Paeth);
    image.write_with_encoder(encoder).unwrap();
    bytes
}

/// The result of each file, or its error; the images encoded; and those that were not.
fn run(folder: &Path, names: &[&str], plan: Plan) -> (Vec<Result<Known, String>>, u64, u64) {
    let sources: Vec<_> = names
        .iter()
        .map(|name| Entry::from(Ok(ImageSource::Path(folder.join(name)))))
        .collect();
    let model = Arc::new(Counting::default());
    let slot: ModelSlot = Arc::new(OnceLock::from(model.clone() as Arc<dyn DualEncoder>));
    let mut pipeline = Pipeline::start(sources.into_iter(), plan, slot, Stop::default());
    let mut results = Vec::new();
    for (encoded, name) in (&mut pipeline).flatten().zip(names) {
        assert_eq!(encoded.image.text, folder.join(name).to_str().unwrap());
        results.push(encoded.outcome.map_err(|error| format!("{error:#}")));
    }
    (results, model.0.load(Ordering::Relaxed), pipeline.repeats())
}

#[test]
fn an_image_that_repeats_is_encoded_once() {
    let room = tempfile::tempdir().unwrap();
    let write = |name, bytes: &[u8]| fs::write(room.path().join(name), bytes).unwrap();
    let first = saved(&drawn(1), ImageFormat::Png);
    let again = saved_again(&drawn(1));
    assert_ne!(first, again);
    write("a.png", &first);
    write("copy.png", &first);
    write("again.png", &again);
    write("a.bmp", &saved(&drawn(1), ImageFormat::Bmp));
    write("b.png", &saved(&drawn(2), ImageFormat::Png));
    write("c.png", &saved(&drawn(3), ImageFormat::Png));
    write("broken.png", &first[..40]);
    let names = [
        "a.png",
        "b.png",
        "copy.png",
        "broken.png",
        "again.png",
        "a.png",
        "b.png",
        "broken.png",
        "a.bmp",
        "c.png",
        "again.png",
        "copy.png",
        "b.png",
        "missing.png",
        "c.png",
        "a.png",
    ];
    let alone: Vec<_> = names
        .iter()
        .map(|name| run(room.path(), &[name], plan(1, None)).0.remove(0))
        .collect();
    assert_eq!(alone.iter().filter(|result| result.is_err()).count(), 3);
    for threads in [1, 2, 5] {
        for batch_size in [None, Some(1), Some(3), Some(64)] {
            let (results, encoded, repeats) = run(room.path(), &names, plan(threads, batch_size));
            assert_eq!(results, alone, "{threads} {batch_size:?}");
            assert_eq!((encoded, repeats), (3, 10), "{threads} {batch_size:?}");
        }
    }
}

#[test]
fn copies_keep_a_thumbnail_and_a_size_of_their_own() {
    let room = tempfile::tempdir().unwrap();
    let write = |name, image: &RgbImage| {
        fs::write(room.path().join(name), saved(image, ImageFormat::Png)).unwrap();
    };
    let tall = |edge: u8| {
        RgbImage::from_fn(8, 40, |x, y| match y {
            0 => Rgb([edge; 3]),
            _ => Rgb([x as u8 * 9, 60, 7]),
        })
    };
    // They differ only where the tower does not look.
    write("a.png", &tall(0));
    write("b.png", &tall(255));
    let thumbnails = |names: &[&str]| {
        let plan = Plan {
            thumbnails: Some(40),
            ..plan(1, None)
        };
        let (results, encoded, _) = run(room.path(), names, plan);
        let known = results.into_iter().map(|result| result.unwrap());
        (known.collect::<Vec<_>>(), encoded)
    };
    let (known, encoded) = thumbnails(&["a.png", "b.png", "a.png", "a.png"]);
    assert_eq!(encoded, 1);
    assert_eq!(known[0].embedding, known[1].embedding);
    assert_ne!(known[0].thumbnail, known[1].thumbnail);
    assert_eq!((&known[2], &known[3]), (&known[0], &known[0]));
    assert_eq!(known[1], thumbnails(&["b.png"]).0[0]);
}

#[test]
fn repeats_of_an_image_that_fails_fail_like_it() {
    let room = tempfile::tempdir().unwrap();
    let red = RgbImage::from_pixel(9, 9, Rgb([255, 0, 0]));
    fs::write(room.path().join("red.png"), saved(&red, ImageFormat::Png)).unwrap();
    fs::write(
        room.path().join("a.png"),
        saved(&drawn(1), ImageFormat::Png),
    )
    .unwrap();
    let names = ["red.png", "red.png", "a.png", "red.png", "red.png", "a.png"];
    for (threads, batch_size) in [(1, None), (3, None), (2, Some(4))] {
        let (results, encoded, _) = run(room.path(), &names, plan(threads, batch_size));
        assert_eq!(encoded, 1);
        for (name, result) in names.iter().zip(results) {
            match result {
                Ok(_) => assert_eq!(*name, "a.png"),
                Err(error) => assert_eq!((*name, error.as_str()), ("red.png", "a red image")),
            }
        }
    }
}
