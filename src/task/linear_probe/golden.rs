//! Fits compared with scikit-learn's; `tests/probe/golden.py` generates `fit.json`.

use serde_json::Value;

use super::Samples;
use super::logistic::{Effort, Penalty, fit};

const GO: Effort<'static> = Effort {
    tolerance: Effort::EXACT,
    is_stopped: &|| false,
};

fn numbers(value: &Value) -> Vec<f64> {
    let values = value.as_array().unwrap().iter();
    values.map(|value| value.as_f64().unwrap()).collect()
}

#[test]
fn unbalanced_classes_are_fitted_as_in_scikit_learn() {
    let golden: Value =
        serde_json::from_str(include_str!("../../../tests/probe/fit.json")).unwrap();
    let mut samples = Samples::new(4, 3);
    let rows = golden["samples"].as_array().unwrap();
    for (row, class) in rows.iter().zip(numbers(&golden["classes"])) {
        let row: Vec<f32> = numbers(row).iter().map(|value| *value as f32).collect();
        samples.push(&row, class as usize).unwrap();
    }
    assert_eq!(samples.counts(), [40, 9, 3]);
    let penalty = Penalty {
        l2: golden["l2"].as_f64().unwrap(),
        towards: None,
    };
    let found = fit(&samples, penalty, None, GO).unwrap();
    let (weights, bias) = found.parameters.split_at(12);
    // Adding a number to all biases changes nothing.
    let mean = bias.iter().sum::<f64>() / 3.0;
    let centred = bias.iter().map(|bias| bias - mean);
    let found = weights.iter().copied().chain(centred);
    let expected = [numbers(&golden["weights"]), numbers(&golden["bias"])].concat();
    // Both stop when the gradient is a millionth of its initial value. If the bias were
    // regularised, weights would be off by more than 0.1 and biases by more than 0.3.
    for (at, (found, expected)) in found.zip(expected).enumerate() {
        assert!((found - expected).abs() < 1e-4, "{at}: {found} {expected}");
    }
}

#[test]
fn two_classes_match_the_single_vector_of_scikit_learn() {
    // log(1 + exp(-w)) for x = 1 in class 1 and x = -1 in class 0, and w^2 / 2 for C = 1: the slope
    // is zero at w = 2 / (1 + e^w).
    let mut samples = Samples::new(1, 2);
    samples.push(&[1.0], 1).unwrap();
    samples.push(&[-1.0], 0).unwrap();
    let penalty = Penalty {
        l2: 1.0,
        towards: None,
    };
    let found = fit(&samples, penalty, None, GO).unwrap();
    let w = found.parameters[1] - found.parameters[0];
    assert!((w - 2.0 / (1.0 + w.exp())).abs() < 1e-6, "{w}");
}
