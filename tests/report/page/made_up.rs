//! Names, labels and predictions of runs that never took place.

use anyhow::Result;
use longclip::input::image::RgbImage;
use longclip::output::report::{LabelScore, PageImage};
use rand::Rng;
use rand_chacha::ChaCha8Rng;

use crate::drawing;

/// Names that a page must show as text.
pub(crate) const HOSTILE: [&str; 6] = [
    "</script><script>document.title='run'</script>.jpg",
    "<img src=x onerror=\"document.title='run'\">.png",
    "quotes \" ' ` & &amp; {{rows}} ${1}.jpg",
    "line\u{2028}separator\nnew line\ttab \u{1b}[31mred\u{0}.jpg",
    "photo\u{202e}gpj.exe",
    "تصویر/گربه 猫 🐈.jpg",
];

/// Ten classes.
pub(crate) const TEN: [&str; 10] = [
    "tabby cat",
    "cup of coffee",
    "rocket",
    "sunflower",
    "stop sign",
    "brick wall",
    "life belt",
    "starfish",
    "striped shirt",
    "ping-pong ball",
];

/// Names of classes as in datasets.
pub(crate) fn named(classes: usize) -> Vec<String> {
    let kinds = [
        "sparrow",
        "retriever",
        "sailing boat",
        "mushroom",
        "tram",
        "violin",
        "beetle",
        "orchid",
        "bridge",
        "kettle",
    ];
    let which = [
        "common",
        "great",
        "northern",
        "spotted",
        "old",
        "dwarf",
        "long-tailed",
        "golden",
        "Mediterranean",
        "wild",
    ];
    let of = [
        "",
        " of the mountains",
        " at night",
        " (young)",
        " seen from above",
        " in winter",
        " with a very long name that fits nowhere",
        " II",
        " on a beach",
        ", drawing",
    ];
    let name = |at: usize| {
        format!(
            "{} {}{}",
            which[at / 10 % 10],
            kinds[at % 10],
            of[at / 100 % 10]
        )
    };
    (0..classes).map(name).collect()
}

/// Top predictions for an image of class `truth`: neighbours in the list are similar.
pub(crate) fn answers(truth: usize, classes: usize, random: &mut ChaCha8Rng) -> Vec<LabelScore> {
    let ease = 1.0 - 0.6 * (truth as f32 * 0.37).sin().abs();
    let mut scores: Vec<(usize, f32)> = (0..classes.min(12))
        .map(|at| {
            let label = if at < 6 {
                (truth + at) % classes
            } else {
                random.random_range(0..classes)
            };
            let lead = if at == 0 { 4.0 * ease } else { 1.5 / at as f32 };
            (label, lead + random.random_range(0.0..3.0f32))
        })
        .collect();
    scores.sort_by_key(|one| one.0);
    scores.dedup_by_key(|one| one.0);
    let sum: f32 = scores.iter().map(|one| (1.6 * one.1).exp()).sum();
    let mut answers: Vec<LabelScore> = scores
        .into_iter()
        .map(|(label, score)| LabelScore {
            label,
            score: (1.6 * score).exp() / sum,
        })
        .collect();
    answers.sort_by(|a, b| b.score.total_cmp(&a.score));
    answers.truncate(5);
    answers
}

/// An image of class `truth`, with predictions.
pub(crate) fn image(
    at: usize,
    truth: usize,
    labels: &[String],
    photographs: &[RgbImage],
    random: &mut ChaCha8Rng,
) -> Result<PageImage> {
    let folder = labels[truth].replace(' ', "_");
    Ok(PageImage {
        name: format!("test/{folder}/IMG_{:05}.jpg", at * 37 % 99_991),
        size: Some((
            random.random_range(300..4000),
            random.random_range(300..3000),
        )),
        thumbnail: Some(drawing::draw(truth, photographs, random)?),
        predictions: answers(truth, labels.len(), random),
        targets: vec![truth],
        ..PageImage::default()
    })
}
