//! The images and texts that a model is timed on.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use candle_core::{Device, Tensor};

use crate::file::temporary::TemporaryFolder;
use crate::input::image::{DecodeOptions, RgbImage};
use crate::input::paths::ImageSource;
use crate::input::preprocess::Preprocess;
use crate::input::prompt::Templates;
use crate::input::tokenizer::{END_OF_TEXT, LongText, START_OF_TEXT, TokenIds};
use crate::input::{image, paths, prompt, tokenizer};
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
    _made: Option<TemporaryFolder>,
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
        let folder = std::env::temp_dir().join("longclip-bench");
        let folder =
            TemporaryFolder::next_to(&folder).context("cannot create a folder for images")?;
        for number in 0..COUNT {
            let file = folder.path().join(format!("{number:02}.jpg"));
            let bytes = image::to_jpeg(&generated_image(number), QUALITY)?;
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
        for entry in paths::expand(vec![self.path.clone()], None, IMAGES)? {
            let read = match entry.source {
                Ok(ImageSource::Path(path)) => image::read(&path, &DecodeOptions::default())
                    .with_context(|| path.display().to_string()),
                Ok(_) => continue,
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
fn generated_image(number: usize) -> RgbImage {
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

/// Maximum number of labels timed together.
const MOST: usize = 1000;

const ADJECTIVES: [&str; 34] = [
    "red", "green", "blue", "old", "new", "small", "large", "wooden", "metal", "happy", "sad",
    "wet", "dry", "bright", "dark", "white", "black", "yellow", "broken", "clean", "dirty",
    "heavy", "light", "round", "square", "tall", "short", "soft", "hard", "fast", "slow", "hot",
    "cold", "quiet",
];
const NOUNS: [&str; 30] = [
    "cat", "dog", "car", "tree", "house", "boat", "plane", "bird", "horse", "sheep", "cow", "bear",
    "zebra", "lamp", "chair", "table", "cup", "fork", "knife", "spoon", "bowl", "pizza", "cake",
    "apple", "orange", "bed", "sofa", "clock", "vase", "book",
];

/// The labels of `file`, at most 1000, or as many generated ones. Guesses about the file are passed
/// to `say`.
pub(super) fn labels(file: Option<&Path>, say: impl FnMut(&String)) -> Result<Vec<String>> {
    let Some(file) = file else {
        return Ok((0..MOST).map(generated_label).collect());
    };
    let set = prompt::labels_from_file(file, None, &Templates::none())?;
    set.note.iter().for_each(say);
    Ok(set
        .classes
        .into_iter()
        .flat_map(|class| class.prompts)
        .take(MOST)
        .collect())
}

/// The generated label with this index below 1020. All differ, and both words change from one to
/// the next, so that even a few labels share only the template.
fn generated_label(number: usize) -> String {
    let adjective = number % ADJECTIVES.len();
    let noun = (adjective + number / ADJECTIVES.len()) % NOUNS.len();
    format!("a photo of a {} {}", ADJECTIVES[adjective], NOUNS[noun])
}

/// The tokens of `labels`, each at its own length.
pub(super) fn tokens(labels: &[String], context_length: usize) -> Result<Vec<TokenIds>> {
    let fit = |label: &String| tokenizer::fit(label, context_length, LongText::Error);
    labels
        .iter()
        .map(|label| Ok(fit(label)?.into_first()))
        .collect()
}

/// Texts of arbitrary words that fill the context and have nothing in common.
pub(super) fn full_context(count: usize, context_length: usize) -> Result<Vec<TokenIds>> {
    let mut state = 1_u32;
    let mut word = || {
        // Knuth's constants; the high bits are the most random.
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) % START_OF_TEXT
    };
    let text = |_| {
        let mut ids = vec![START_OF_TEXT];
        ids.extend((2..context_length).map(|_| word()));
        ids.push(END_OF_TEXT);
        TokenIds::new(ids)
    };
    (0..count).map(text).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

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
        let jpeg = image::to_jpeg(&generated_image(0), QUALITY).unwrap();
        std::fs::write(folder.path().join("a.jpg"), jpeg).unwrap();
        std::fs::write(folder.path().join("b.jpg"), b"no image").unwrap();
        let pixels = open().pixels(3, &Preprocess::clip(32)).unwrap();
        let rows = pixels.flatten_from(1).unwrap().to_vec2::<f32>().unwrap();
        assert_eq!((rows.len(), &rows[0]), (3, &rows[2]));
    }

    #[test]
    fn generated_labels_differ() {
        let labels = labels(None, |_| ()).unwrap();
        assert_eq!(labels.len(), MOST);
        assert_eq!(
            labels[..2],
            ["a photo of a red cat", "a photo of a green dog"]
        );
        assert_eq!(labels.iter().collect::<HashSet<_>>().len(), MOST);
        let first_words: HashSet<_> = (0..10)
            .map(|n| generated_label(n).split(' ').nth(4).map(str::to_owned))
            .collect();
        assert_eq!(first_words.len(), 10);
    }

    #[test]
    fn full_texts_fill_the_context_and_share_only_their_start() {
        let texts = full_context(10, 77).unwrap();
        assert!(texts.iter().all(|text| text.len() == 77));
        let second: HashSet<_> = texts.iter().map(|text| text.as_slice()[1]).collect();
        assert_eq!(second.len(), 10);
    }

    #[test]
    fn a_file_replaces_the_labels() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("labels.txt");
        std::fs::write(&file, "a cat\na dog in the rain\n").unwrap();
        assert_eq!(
            labels(Some(&file), |_| ()).unwrap(),
            ["a cat", "a dog in the rain"]
        );
        let tokens = tokens(&labels(Some(&file), |_| ()).unwrap(), 77).unwrap();
        assert_eq!(tokens[0].len(), 4);
        assert_eq!(tokens[1].len(), 7);
    }
}
