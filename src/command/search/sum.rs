//! Weighted sums of queries.

use anyhow::{Context as _, Result, bail, ensure};

use super::query::Query;

/// The direction of a shorter sum is only rounding error.
const SHORTEST: f64 = 1e-5;

/// Weights and queries that are added to every query.
pub(super) struct Added(pub(super) Vec<(f32, Query)>);

impl Added {
    /// Parses the values of `--add`: a weight, a query, a weight, a query and so on.
    pub(super) fn new(words: &[String]) -> Result<Self> {
        let (pairs, _) = words.as_chunks();
        let pair = |[weight, query]: &[String; 2]| {
            let parsed: Option<f32> = weight
                .parse()
                .ok()
                .filter(|weight: &f32| weight.is_finite());
            let parsed = parsed.with_context(|| {
                format!(
                    "--add takes a weight and a query, such as --add 0.5 \"a heart\"; {weight:?} is not a \
                     number"
                )
            })?;
            Ok((parsed, Query::new(query)))
        };
        Ok(Self(pairs.iter().map(pair).collect::<Result<_>>()?))
    }

    /// The sum with `query`, for display.
    pub(super) fn shown(&self, query: &Query) -> String {
        if self.0.is_empty() {
            return query.shown();
        }
        let mut shown = format!("\"{}\"", query.shown());
        for (weight, added) in &self.0 {
            let sign = if *weight < 0.0 { '-' } else { '+' };
            let weight = match weight.abs() {
                1.0 => String::new(),
                weight => format!("{weight} "),
            };
            shown += &format!(" {sign} {weight}\"{}\"", added.shown());
        }
        shown
    }

    /// The normalised sum of `query` and the weighted unit vectors that are added, for each
    /// embedding of the query (`[n, dim]`); `embeddings` are `[1, dim]` each.
    pub(super) fn to(
        &self,
        query: Vec<f32>,
        embeddings: &[Result<Vec<f32>>],
        dim: usize,
    ) -> Result<Vec<f32>> {
        let mut added = Vec::new();
        for ((weight, part), embedding) in self.0.iter().zip(embeddings) {
            match embedding {
                Ok(embedding) => added.push((*weight, embedding.as_slice())),
                Err(error) => bail!("cannot add {}: {error:#}", part.shown()),
            }
        }
        if added.is_empty() {
            return Ok(query);
        }
        for ((_, part), (_, embedding)) in self.0.iter().zip(&added) {
            ensure!(
                embedding.len() == dim,
                "cannot add {}, a text with several chunks; pass --long-text chunk-mean or slide",
                part.shown()
            );
        }
        let sums = query.chunks_exact(dim).map(|query| sum(query, &added));
        Ok(sums.collect::<Result<Vec<_>>>()?.concat())
    }
}

/// The normalised sum.
fn sum(query: &[f32], added: &[(f32, &[f32])]) -> Result<Vec<f32>> {
    let mut sum: Vec<f64> = query.iter().map(|value| f64::from(*value)).collect();
    for (weight, embedding) in added {
        for (total, value) in sum.iter_mut().zip(*embedding) {
            *total += f64::from(*weight) * f64::from(*value);
        }
    }
    let length = sum.iter().map(|value| value.powi(2)).sum::<f64>().sqrt();
    ensure!(
        length >= SHORTEST && length.is_finite(),
        "the weighted sum is nearly zero (length {length:e}) and has no direction; choose other \
         weights"
    );
    Ok(sum.iter().map(|value| (value / length) as f32).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn added(words: &[&str]) -> Result<Added> {
        Added::new(
            &words
                .iter()
                .map(|word| (*word).to_owned())
                .collect::<Vec<_>>(),
        )
    }

    #[test]
    fn a_sum_is_weighted_and_of_unit_length() {
        let two = added(&["0.5", "b", "-1", "c"]).unwrap();
        let embeddings = [Ok(vec![0.0, 1.0, 0.0]), Ok(vec![0.0, 0.0, 1.0])];
        let sum = two
            .to(vec![1.0, 0.0, 0.0, 0.0, 1.0, 0.0], &embeddings, 3)
            .unwrap();
        let expected = [1.0, 0.5, -1.0].map(|value: f32| value / 1.5);
        for (value, expected) in sum.iter().zip(expected) {
            assert!((value - expected).abs() < 1e-6, "{sum:?}");
        }
        // The second embedding of the query has a sum of its own.
        let expected = [0.0, 1.5, -1.0].map(|value: f32| value / 3.25f32.sqrt());
        for (value, expected) in sum[3..].iter().zip(expected) {
            assert!((value - expected).abs() < 1e-6, "{sum:?}");
        }
        let none = added(&[]).unwrap();
        assert_eq!(none.to(vec![1.0, 0.0], &[], 2).unwrap(), [1.0, 0.0]);
    }

    #[test]
    fn sums_without_a_direction_are_refused() {
        let same = added(&["-1", "a"]).unwrap();
        let error = same
            .to(vec![1.0, 0.0], &[Ok(vec![1.0, 0.0])], 2)
            .unwrap_err();
        assert!(error.to_string().contains("no direction"), "{error}");
        let error = same.to(vec![1.0, 0.0], &[Ok(vec![1.0, 0.0, 0.0, 1.0])], 2);
        assert!(error.unwrap_err().to_string().contains("several chunks"));
        let error = same.to(vec![1.0, 0.0], &[Err(anyhow::anyhow!("gone"))], 2);
        assert_eq!(error.unwrap_err().to_string(), "cannot add a: gone");
        for weight in ["x", "nan", "inf", ""] {
            let error = added(&[weight, "b"]).err().unwrap().to_string();
            assert!(error.contains("is not a number"), "{error}");
        }
    }

    #[test]
    fn sums_are_shown_as_formulas() {
        let query = Query::Text("sun".to_owned());
        assert_eq!(added(&[]).unwrap().shown(&query), "sun");
        let shown = added(&["0.5", "heart", "-1", "a, b", "1", "c", "-2.5", "d"]).unwrap();
        let expected = "\"sun\" + 0.5 \"heart\" - \"a, b\" + \"c\" - 2.5 \"d\"";
        assert_eq!(shown.shown(&query), expected);
    }
}
