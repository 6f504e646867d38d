//! The mean embedding of the frames of an animation or a video, instead of its frames.

use anyhow::{Result, bail};

use super::{Encoded, Known};

/// Results, of which those of frames become one per source.
pub(in crate::run) struct Means<I> {
    results: I,
    /// Whether frames are averaged at all.
    wanted: bool,
    /// The source whose frames are being read.
    open: Option<Open>,
}

/// A source so far.
struct Open {
    /// The first frame, or the first that failed.
    encoded: Encoded,
    sum: Vec<f64>,
}

impl<I> Means<I> {
    /// In `results`, `None` follows the last frame of a source.
    pub(in crate::run) fn new(results: I, wanted: bool) -> Self {
        Self {
            results,
            wanted,
            open: None,
        }
    }
}

impl<I: Iterator<Item = Option<Encoded>>> Iterator for Means<I> {
    type Item = Encoded;

    fn next(&mut self) -> Option<Encoded> {
        for result in self.results.by_ref() {
            match result {
                None => {
                    if let Some(open) = self.open.take() {
                        return Some(open.finish());
                    }
                }
                Some(encoded) if !self.wanted || encoded.frame.is_none() => return Some(encoded),
                Some(encoded) => match &mut self.open {
                    Some(open) => open.add(encoded),
                    None => self.open = Some(Open::new(encoded)),
                },
            }
        }
        // A source without its end was interrupted, and its mean would be another one.
        None
    }
}

impl Open {
    fn new(encoded: Encoded) -> Self {
        let known = encoded.outcome.as_ref().ok();
        let values = known.map_or(&[][..], |known| &known.embedding);
        Self {
            sum: values.iter().copied().map(f64::from).collect(),
            encoded,
        }
    }

    fn add(&mut self, encoded: Encoded) {
        match (&mut self.encoded.outcome, encoded.outcome) {
            (Ok(known), Ok(other)) => {
                for (sum, value) in self.sum.iter_mut().zip(&other.embedding) {
                    *sum += f64::from(*value);
                }
                for warning in other.warnings {
                    if !known.warnings.contains(&warning) {
                        known.warnings.push(warning);
                    }
                }
            }
            (Ok(_), Err(error)) => {
                self.encoded = Encoded {
                    outcome: Err(error),
                    ..encoded
                }
            }
            (Err(_), _) => {}
        }
    }

    /// The result of all frames; an error names its frame.
    fn finish(self) -> Encoded {
        let sum = self.sum;
        let outcome = self.encoded.outcome.and_then(|known| mean(known, &sum));
        Encoded {
            frame: self.encoded.frame.filter(|_| outcome.is_err()),
            outcome,
            ..self.encoded
        }
    }
}

/// The direction of a sum of unit embeddings.
fn mean(known: Known, sum: &[f64]) -> Result<Known> {
    let norm = sum.iter().map(|value| value * value).sum::<f64>().sqrt();
    if norm.is_nan() || norm <= 1e-6 {
        bail!("the embeddings of the frames cancel each other out");
    }
    let embedding = sum.iter().map(|value| (value / norm) as f32).collect();
    Ok(Known { embedding, ..known })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use anyhow::anyhow;

    use super::*;
    use crate::output::FrameId;

    fn encoded(image: &str, frame: Option<u64>, outcome: Result<[f32; 2], &str>) -> Encoded {
        Encoded {
            given: None,
            image: Path::new(image).into(),
            frame: frame.map(|index| FrameId { index, time: None }),
            path: None,
            stamp: None,
            outcome: outcome
                .map(|values| Known {
                    embedding: values.to_vec(),
                    size: (4, 3),
                    warnings: vec!["gif: odd".to_owned()],
                    thumbnail: None,
                })
                .map_err(|error| anyhow!("{error}")),
        }
    }

    #[test]
    fn frames_become_one_result_per_source() {
        let (x, y) = ([1.0, 0.0], [0.0, 1.0]);
        let frame = |name, index, outcome| Some(encoded(name, Some(index), outcome));
        let results = || {
            [
                Some(encoded("a.jpg", None, Ok(x))),
                frame("b.gif", 0, Ok(x)),
                frame("b.gif", 5, Ok(y)),
                None,
                // The same again, and then one of a single frame.
                frame("b.gif", 0, Ok(y)),
                None,
                frame("c.gif", 2, Ok(y)),
                None,
                frame("d.gif", 0, Ok(x)),
                frame("d.gif", 1, Err("cut")),
                None,
                frame("e.gif", 0, Ok(x)),
                frame("e.gif", 1, Ok([-1.0, 0.0])),
                None,
                Some(encoded("f.jpg", None, Err("lost"))),
                frame("-", 0, Ok(x)),
                frame("-", 1, Ok(x)),
                None,
                // Interrupted.
                frame("g.gif", 0, Ok(x)),
            ]
            .into_iter()
        };
        let shown: Vec<_> = Means::new(results(), true)
            .map(|encoded| {
                let name = encoded.name().text;
                match encoded.outcome {
                    Ok(known) => format!("{name} {:?} {}", known.embedding, known.warnings.len()),
                    Err(error) => format!("{name}: {error}"),
                }
            })
            .collect();
        let expected = [
            "a.jpg [1.0, 0.0] 1",
            "b.gif [0.70710677, 0.70710677] 1",
            "b.gif [0.0, 1.0] 1",
            "c.gif [0.0, 1.0] 1",
            "d.gif#1: cut",
            "e.gif#0: the embeddings of the frames cancel each other out",
            "f.jpg: lost",
            "- [1.0, 0.0] 1",
        ];
        assert_eq!(shown, expected);
        assert_eq!(Means::new(results(), false).count(), 13);
        // A mean does not wait for what comes after its source.
        let mut means = Means::new(
            results().take(4).chain(std::iter::from_fn(|| panic!())),
            true,
        );
        assert_eq!(means.nth(1).unwrap().name().text, "b.gif");
    }
}
