//! The figures, as JSON and as a table.

use serde::Serialize;

use crate::output::table::{Column, TextTable};

/// All figures and their context. The field names are stable, since scripts read them.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    pub(super) model: String,
    pub(super) architecture: String,
    pub(super) context_length: usize,
    pub(super) precision: &'static str,
    pub(super) threads: usize,
    pub(super) device: String,
    pub(super) cpu: Option<String>,
    pub(super) cpu_features: Vec<&'static str>,
    pub(super) version: &'static str,
    /// Time to load the model, measured once.
    pub(super) load_ms: f64,
    #[serde(flatten)]
    pub(super) images: Images,
    #[serde(flatten)]
    pub(super) texts: Texts,
    #[serde(flatten)]
    pub(super) folder: Folder,
    #[serde(flatten)]
    pub(super) memory: Memory,
    #[serde(flatten)]
    pub(super) loss: Loss,
}

/// The image tower. As in every part, fields are `None` if it was not measured.
#[derive(Debug, Default, Serialize)]
pub(super) struct Images {
    pub(super) image_b1_ms: Option<f64>,
    /// The whole batch of 16.
    pub(super) image_b16_ms: Option<f64>,
}

/// The text tower; `None` if the labels file has too few labels.
#[derive(Debug, Default, Serialize)]
pub(super) struct Texts {
    pub(super) labels2_ms: Option<f64>,
    pub(super) labels10_ms: Option<f64>,
    pub(super) labels100_ms: Option<f64>,
    pub(super) labels1000_ms: Option<f64>,
    /// Ten texts that fill the context.
    pub(super) labels10_full_context_ms: Option<f64>,
}

/// Decoding, resizing and encoding together.
#[derive(Debug, Default, Serialize)]
pub(super) struct Folder {
    pub(super) folder: Option<String>,
    pub(super) folder_images: Option<u64>,
    pub(super) folder_images_per_s: Option<f64>,
}

/// Peak memory of the process in MiB; `None` if the system does not report it.
#[derive(Debug, Default, Serialize)]
pub(super) struct Memory {
    /// All resident pages, including those of the memory-mapped model file.
    pub(super) peak_rss_mib: Option<f64>,
    /// Private pages that the process allocated; the maximum of samples.
    pub(super) peak_anonymous_mib: Option<f64>,
}

/// The minimum cosine between an embedding and the same in f32; `None` for f32 itself.
#[derive(Debug, Default, Serialize)]
pub(super) struct Loss {
    pub(super) image_cosine_to_f32: Option<f64>,
    pub(super) text_cosine_to_f32: Option<f64>,
}

impl Report {
    /// Aligned lines with units.
    pub(super) fn table(&self) -> String {
        let mut figures = TextTable::new([Column::LEFT, Column::RIGHT, Column::RIGHT.at_least(18)]);
        for FigureRow { name, value, rate } in &self.rows() {
            figures.row([name, value, rate]);
        }
        format!("{}\n{}", self.heading().plain(), figures.plain())
    }

    fn heading(&self) -> TextTable<2> {
        let mut heading = TextTable::of_facts();
        let architecture = format!("{}, {} tokens", self.architecture, self.context_length);
        heading.fact("model", &format!("{}: {architecture}", self.model));
        let device = format!("{}, {} threads", self.device, self.threads);
        heading.fact("device", &device);
        let cpu = self.cpu.as_deref().unwrap_or("unknown");
        heading.fact("cpu", &format!("{cpu}: {}", self.cpu_features.join(" ")));
        let mut precision = self.precision.to_owned();
        let loss = (self.loss.image_cosine_to_f32, self.loss.text_cosine_to_f32);
        if let (Some(image), Some(text)) = loss {
            precision += &format!("; minimum cosine to f32: images {image:.6}, texts {text:.6}");
        }
        heading.fact("precision", &precision);
        heading.fact("version", self.version);
        heading
    }

    fn rows(&self) -> Vec<FigureRow> {
        let (images, texts) = (&self.images, &self.texts);
        let image = |name: &str, count, ms| FigureRow::timed(name.to_owned(), count, ms, "images");
        let label =
            |count, ms| FigureRow::timed(format!("text tower, {count} labels"), count, ms, "texts");
        let full = format!("text tower, 10 texts of {} tokens", self.context_length);
        let mut rows = vec![
            FigureRow::new("load".to_owned(), Some(self.load_ms), "ms"),
            image("image tower, 1 image", 1, images.image_b1_ms),
            image("image tower, 16 images together", 16, images.image_b16_ms),
            label(2, texts.labels2_ms),
            label(10, texts.labels10_ms),
            label(100, texts.labels100_ms),
            label(1000, texts.labels1000_ms),
            FigureRow::timed(full, 10, texts.labels10_full_context_ms, "texts"),
        ];
        if let (Some(folder), Some(rate)) = (&self.folder.folder, self.folder.folder_images_per_s) {
            let mut row = FigureRow::new(format!("folder: {folder}"), None, "");
            row.value.clear();
            row.rate = number(rate, "images/s");
            rows.push(row);
        }
        let peak = &self.memory;
        rows.push(FigureRow::new(
            "peak memory".to_owned(),
            peak.peak_rss_mib,
            "MiB",
        ));
        let own = "  without the model file's pages".to_owned();
        rows.push(FigureRow::new(own, peak.peak_anonymous_mib, "MiB"));
        rows
    }
}

struct FigureRow {
    name: String,
    value: String,
    rate: String,
}

impl FigureRow {
    fn new(name: String, value: Option<f64>, unit: &str) -> Self {
        Self {
            name,
            value: value.map_or_else(|| "-".to_owned(), |value| number(value, unit)),
            rate: String::new(),
        }
    }

    fn timed(name: String, count: u32, ms: Option<f64>, things: &str) -> Self {
        let rate = |ms: f64| number(f64::from(count) / ms * 1e3, &format!("{things}/s"));
        Self {
            rate: ms.map(rate).unwrap_or_default(),
            ..Self::new(name, ms, "ms")
        }
    }
}

fn number(value: f64, unit: &str) -> String {
    format!("{value:.1} {unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        Report {
            model: "m".to_owned(),
            architecture: "ViT-B/16".to_owned(),
            context_length: 248,
            precision: "bf16",
            threads: 2,
            device: "cpu".to_owned(),
            cpu: None,
            cpu_features: vec!["avx2"],
            version: "1.2.3",
            load_ms: 500.25,
            images: Images {
                image_b1_ms: Some(40.0),
                image_b16_ms: Some(640.0),
            },
            texts: Texts {
                labels2_ms: Some(2.0),
                labels10_ms: Some(5.0),
                labels100_ms: None,
                labels1000_ms: None,
                labels10_full_context_ms: Some(400.0),
            },
            folder: Folder {
                folder: Some("photos".to_owned()),
                folder_images: Some(3),
                folder_images_per_s: Some(12.34),
            },
            memory: Memory {
                peak_rss_mib: Some(800.0),
                peak_anonymous_mib: None,
            },
            loss: Loss {
                image_cosine_to_f32: Some(0.999_998_7),
                text_cosine_to_f32: Some(0.999_9),
            },
        }
    }

    #[test]
    fn the_table_is_aligned_and_has_units() {
        let table = report().table();
        for line in [
            "model      m: ViT-B/16, 248 tokens",
            "precision  bf16; minimum cosine to f32: images 0.999999, texts 0.999900",
            "load                                 500.2 ms",
            "image tower, 16 images together      640.0 ms       25.0 images/s",
            "text tower, 10 labels                  5.0 ms      2000.0 texts/s",
            "text tower, 100 labels                      -",
            "text tower, 10 texts of 248 tokens   400.0 ms        25.0 texts/s",
            "folder: photos                                      12.3 images/s",
            "peak memory                         800.0 MiB",
            "  without the model file's pages            -",
        ] {
            assert!(table.lines().any(|found| found == line), "{line}\n{table}");
        }
    }

    #[test]
    fn json_is_one_flat_object() {
        let json = serde_json::to_value(report()).unwrap();
        assert_eq!(json["labels10_ms"], 5.0);
        assert_eq!(json["labels1000_ms"], serde_json::Value::Null);
        assert_eq!(json["folder_images_per_s"], 12.34);
        assert_eq!(json["precision"], "bf16");
        assert!(
            json.as_object()
                .unwrap()
                .values()
                .all(|value| !value.is_object())
        );
    }
}
