//! The figures, for programs and for people.

use std::fmt::Write as _;

use serde::Serialize;

/// What was measured, on what. The names are a contract: scripts read them.
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
    /// From the file to a model that is ready, once.
    pub(super) load_ms: f64,
    pub(super) image_b1_ms: f64,
    /// The whole batch of 16.
    pub(super) image_b16_ms: f64,
    #[serde(flatten)]
    pub(super) texts: Texts,
    #[serde(flatten)]
    pub(super) folder: Folder,
    /// All resident pages, those of the mapped model file among them.
    pub(super) peak_rss_mib: Option<f64>,
    /// What the process allocated itself.
    pub(super) peak_anonymous_mib: Option<f64>,
    /// The least cosine between an embedding here and the same in f32; none for f32 itself.
    pub(super) image_cosine_to_f32: Option<f64>,
    pub(super) text_cosine_to_f32: Option<f64>,
}

/// The text tower; none where the labels file has too few.
#[derive(Debug, Serialize)]
pub(super) struct Texts {
    pub(super) labels2_ms: Option<f64>,
    pub(super) labels10_ms: Option<f64>,
    pub(super) labels100_ms: Option<f64>,
    pub(super) labels1000_ms: Option<f64>,
    /// Ten texts that fill the context.
    pub(super) labels10_full_context_ms: f64,
}

/// Decode, resize and encode together.
#[derive(Debug, Serialize)]
pub(super) struct Folder {
    pub(super) folder: String,
    pub(super) folder_images: u64,
    pub(super) folder_images_per_s: f64,
}

impl Report {
    /// Aligned lines with units.
    pub(super) fn table(&self) -> String {
        let mut text = String::new();
        for (name, value) in self.heading() {
            // Writing to a string does not fail.
            let _ = writeln!(text, "{name:<11}{value}");
        }
        text.push('\n');
        let rows = self.rows();
        let width = |column: fn(&Row) -> &str| rows.iter().map(|row| column(row).len()).max();
        let names = width(|row| &row.name).unwrap_or(0);
        let values = width(|row| &row.value).unwrap_or(0);
        for Row { name, value, rate } in &rows {
            let line = format!("{name:<names$}  {value:>values$}  {rate:>18}");
            let _ = writeln!(text, "{}", line.trim_end());
        }
        text
    }

    fn heading(&self) -> Vec<(&'static str, String)> {
        let context = self.context_length;
        let cpu = self.cpu.as_deref().unwrap_or("unknown");
        let mut precision = self.precision.to_owned();
        if let (Some(image), Some(text)) = (self.image_cosine_to_f32, self.text_cosine_to_f32) {
            let _ = write!(
                precision,
                "; least cosine to f32: images {image:.6}, texts {text:.6}"
            );
        }
        vec![
            (
                "model",
                format!("{}: {}, {context} tokens", self.model, self.architecture),
            ),
            (
                "device",
                format!("{}, {} threads", self.device, self.threads),
            ),
            ("cpu", format!("{cpu}: {}", self.cpu_features.join(" "))),
            ("precision", precision),
            ("version", self.version.to_owned()),
        ]
    }

    fn rows(&self) -> Vec<Row> {
        let texts = &self.texts;
        let images = |name: &str, count, ms| Row::timed(name.to_owned(), count, Some(ms), "images");
        let labels =
            |count, ms| Row::timed(format!("text tower, {count} labels"), count, ms, "texts");
        let full = format!("text tower, 10 texts of {} tokens", self.context_length);
        let folder = &self.folder;
        vec![
            Row::new("load", number(self.load_ms, "ms"), String::new()),
            images("image tower, 1 image", 1, self.image_b1_ms),
            images("image tower, 16 images together", 16, self.image_b16_ms),
            labels(2, texts.labels2_ms),
            labels(10, texts.labels10_ms),
            labels(100, texts.labels100_ms),
            labels(1000, texts.labels1000_ms),
            Row::timed(full, 10, Some(texts.labels10_full_context_ms), "texts"),
            Row::new(
                &format!("folder: {}", folder.folder),
                String::new(),
                number(folder.folder_images_per_s, "images/s"),
            ),
            Row::new("peak memory", memory(self.peak_rss_mib), String::new()),
            Row::new(
                "  without pages of the model file",
                memory(self.peak_anonymous_mib),
                String::new(),
            ),
        ]
    }
}

struct Row {
    name: String,
    value: String,
    rate: String,
}

impl Row {
    fn new(name: &str, value: String, rate: String) -> Self {
        Self {
            name: name.to_owned(),
            value,
            rate,
        }
    }

    fn timed(name: String, count: u32, ms: Option<f64>, things: &str) -> Self {
        let rate = |ms: f64| number(f64::from(count) / ms * 1e3, &format!("{things}/s"));
        Self {
            name,
            value: ms.map_or_else(|| "-".to_owned(), |ms| number(ms, "ms")),
            rate: ms.map(rate).unwrap_or_default(),
        }
    }
}

fn memory(mib: Option<f64>) -> String {
    mib.map_or_else(|| "-".to_owned(), |mib| number(mib, "MiB"))
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
            image_b1_ms: 40.0,
            image_b16_ms: 640.0,
            texts: Texts {
                labels2_ms: Some(2.0),
                labels10_ms: Some(5.0),
                labels100_ms: None,
                labels1000_ms: None,
                labels10_full_context_ms: 400.0,
            },
            folder: Folder {
                folder: "photos".to_owned(),
                folder_images: 3,
                folder_images_per_s: 12.34,
            },
            peak_rss_mib: Some(800.0),
            peak_anonymous_mib: None,
            image_cosine_to_f32: Some(0.999_998_7),
            text_cosine_to_f32: Some(0.999_9),
        }
    }

    #[test]
    fn the_table_is_aligned_and_has_units() {
        let table = report().table();
        for line in [
            "model      m: ViT-B/16, 248 tokens",
            "precision  bf16; least cosine to f32: images 0.999999, texts 0.999900",
            "load                                500.2 ms",
            "image tower, 16 images together     640.0 ms       25.0 images/s",
            "text tower, 10 labels                 5.0 ms      2000.0 texts/s",
            "text tower, 100 labels                     -",
            "text tower, 10 texts of 248 tokens  400.0 ms        25.0 texts/s",
            "folder: photos                                     12.3 images/s",
            "peak memory                        800.0 MiB",
            "  without pages of the model file          -",
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
