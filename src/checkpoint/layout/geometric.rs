//! Matrices stored as lengths and directions ("geometric parametrisation" fine-tunes of CLIP keep
//! `r` and `theta` instead of `weight`): `weight = r * theta / |theta|`, row by row.

use anyhow::{Context, Result, ensure};

use crate::checkpoint::Tensors;
use crate::checkpoint::container::StoredTensor;

/// Replaces every pair `x.r` and `x.theta` by `x.weight`.
pub(super) fn recompose(mut tensors: Tensors) -> Result<Tensors> {
    let paths: Vec<String> = tensors
        .keys()
        .filter_map(|name| name.strip_suffix(".theta"))
        .filter(|path| tensors.contains_key(&format!("{path}.r")))
        .map(str::to_owned)
        .collect();
    for path in paths {
        let mut take = |part: &str| tensors.remove(&format!("{path}.{part}"));
        let (Some(lengths), Some(directions)) = (take("r"), take("theta")) else {
            continue;
        };
        let weight = matrix(&lengths, &directions)
            .with_context(|| format!("{path}.r and {path}.theta do not form a matrix"))?;
        let name = format!("{path}.weight");
        ensure!(
            tensors.insert(name.clone(), weight).is_none(),
            "both {name} and the pair {path}.r and {path}.theta that replaces it are present"
        );
    }
    Ok(tensors)
}

/// `lengths` `[rows]` or [rows, 1], `directions` [rows, columns] -> [rows, columns].
fn matrix(lengths: &StoredTensor, directions: &StoredTensor) -> Result<StoredTensor> {
    let &[rows, columns] = directions.shape() else {
        anyhow::bail!("theta is {:?}, not a matrix", directions.shape());
    };
    ensure!(
        lengths.shape() == [rows] || lengths.shape() == [rows, 1],
        "r is {:?}, expected one length for each of {rows} rows",
        lengths.shape()
    );
    let lengths = lengths.to_f32()?;
    let mut values = directions.to_f32()?;
    for (row, (values, length)) in values.chunks_mut(columns.max(1)).zip(&lengths).enumerate() {
        let squares: f64 = values.iter().map(|&v| f64::from(v).powi(2)).sum();
        let norm = squares.sqrt();
        ensure!(
            norm > 0.0 && norm.is_finite(),
            "row {row} of theta is zero and has no direction"
        );
        for value in values {
            *value = (f64::from(*value) / norm * f64::from(*length)) as f32;
        }
    }
    StoredTensor::from_f32(&[rows, columns], values)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tensors(list: &[(&str, &[usize], &[f32])]) -> Tensors {
        list.iter()
            .map(|(name, shape, values)| {
                let tensor = StoredTensor::from_f32(shape, values.to_vec()).unwrap();
                ((*name).to_owned(), tensor)
            })
            .collect()
    }

    #[test]
    fn lengths_and_directions_form_the_matrix() {
        for shape in [&[2][..], &[2, 1]] {
            let found = recompose(tensors(&[
                ("a.r", shape, &[10.0, 0.5]),
                ("a.theta", &[2, 2], &[3.0, 4.0, 0.0, -7.0]),
                ("a.bias", &[2], &[1.0, 2.0]),
            ]))
            .unwrap();
            let names: Vec<_> = found.keys().map(String::as_str).collect();
            assert_eq!(names, ["a.bias", "a.weight"]);
            let weight = found["a.weight"].to_f32().unwrap();
            assert_eq!(weight, [6.0, 8.0, 0.0, -0.5]);
        }
    }

    #[test]
    fn pairs_that_do_not_form_a_matrix_are_errors() {
        let theta: (&str, &[usize], &[f32]) = ("a.theta", &[2, 2], &[3.0, 4.0, 0.0, 0.0]);
        let cases = [
            (
                tensors(&[("a.r", &[2], &[1.0, 1.0]), theta]),
                "no direction",
            ),
            (tensors(&[("a.r", &[1], &[1.0]), theta]), "one length"),
        ];
        for (tensors, expected) in cases {
            let error = format!("{:#}", recompose(tensors).unwrap_err());
            assert!(error.contains(expected), "{error}");
        }
    }
}
