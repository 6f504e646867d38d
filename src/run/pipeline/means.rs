//! The mean embedding of the frames of an animation or a video, instead of its frames.

use anyhow::{Result, bail};

use super::super::session::Stop;
use super::{Encoded, Known};

/// Results, of which those of frames become one per source.
pub(in crate::run) struct Means<I> {
    results: I,
    /// Whether frames are averaged at all.
    wanted: bool,
    /// The source whose frames are being read.
    open: Option<Open>,
    /// What came after it.
    next: Option<Encoded>,
    stop: Stop,
}

/// A source so far.
struct Open {
    /// The first frame, or the first that failed.
    encoded: Encoded,
    /// The index of its last frame.
    last: u64,
    sum: Vec<f64>,
}

impl<I> Means<I> {
    pub(in crate::run) fn new(results: I, wanted: bool, stop: Stop) -> Self {
        Self {
            results,
            wanted,
            open: None,
            next: None,
            stop,
        }
    }
}

impl<I: Iterator<Item = Encoded>> Iterator for Means<I> {
    type Item = Encoded;

    fn next(&mut self) -> Option<Encoded> {
        loop {
            let Some(encoded) = self.next.take().or_else(|| self.results.next()) else {
                // Of an interrupted source the mean would be another one.
                let open = self.open.take();
                return Some(open.filter(|_| self.stop.signal().is_none())?.finish());
            };
            let Some(frame) = encoded.frame.filter(|_| self.wanted) else {
                return Some(match self.open.take() {
                    Some(open) => {
                        self.next = Some(encoded);
                        open.finish()
                    }
                    None => encoded,
                });
            };
            match &mut self.open {
                // Indices rise within a source; the same file may be read twice.
                Some(open) if open.last < frame.index && open.encoded.image == encoded.image => {
                    open.last = frame.index;
                    open.add(encoded);
                }
                Some(_) => {
                    self.next = Some(encoded);
                    return self.open.take().map(Open::finish);
                }
                None => self.open = Some(Open::new(encoded, frame.index)),
            }
        }
    }
}

impl Open {
    fn new(encoded: Encoded, last: u64) -> Self {
        let known = encoded.outcome.as_ref().ok();
        let values = known.map_or(&[][..], |known| &known.embedding);
        Self {
            sum: values.iter().copied().map(f64::from).collect(),
            encoded,
            last,
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
        let results = || {
            [
                encoded("a.jpg", None, Ok(x)),
                encoded("b.gif", Some(0), Ok(x)),
                encoded("b.gif", Some(5), Ok(y)),
                // The same again, and then one of a single frame.
                encoded("b.gif", Some(0), Ok(y)),
                encoded("c.gif", Some(2), Ok(y)),
                encoded("d.gif", Some(0), Ok(x)),
                encoded("d.gif", Some(1), Err("cut")),
                encoded("e.gif", Some(0), Ok(x)),
                encoded("e.gif", Some(1), Ok([-1.0, 0.0])),
                encoded("f.jpg", None, Err("lost")),
                encoded("-", Some(0), Ok(x)),
                encoded("-", Some(1), Ok(x)),
            ]
            .into_iter()
        };
        let means = Means::new(results(), true, Stop::default());
        let shown: Vec<_> = means
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
        let all = Means::new(results(), false, Stop::default());
        assert_eq!(all.count(), 12);
    }
}
