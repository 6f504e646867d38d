//! Gradients and twenty training steps compared with PyTorch's, on Long-CLIP's own loss
//! (`training.py`).

use std::collections::BTreeMap;

use candle_core::{DType, Device, Tensor};
use longclip::checkpoint::Checkpoint;
use longclip::checkpoint::architecture::{Activation, ImageTower};
use longclip::checkpoint::container::open;
use longclip::input::tokenizer::{END_OF_TEXT, START_OF_TEXT, TokenIds};
use longclip::model::device::CpuPrecision;
use longclip::model::{self, Clip, Compute, DualEncoder as _};
use longclip::train::network::Sum;
use longclip::train::{
    Batch, Lora, Objective, Optimizer, Schedule, Scope, Settings, Shape, Short, Target, Trainer,
};

use super::{flat, load, unpack};

const PAIRS: usize = 48;

/// `numbers` of training.py.
fn numbers(seed: u64, count: usize) -> Vec<u64> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state >> 40
    };
    (0..count).map(|_| next()).collect()
}

/// `batch` of training.py.
fn batch(size: usize) -> Batch {
    let pixels: Vec<f32> = numbers(1, PAIRS * 3 * size * size)
        .into_iter()
        .map(|x| (x as f64 / f64::from(1 << 24) * 4.0 - 2.0) as f32)
        .collect();
    let captions = |which: u64, counts: Vec<u64>| -> Vec<TokenIds> {
        let rows = counts.into_iter().enumerate();
        rows.map(|(i, count)| {
            let seed = 100 + which * PAIRS as u64 + i as u64;
            let words = numbers(seed, count as usize - 2).into_iter();
            let mut ids = vec![START_OF_TEXT];
            ids.extend(words.map(|x| (1 + x % 300) as u32));
            ids.push(END_OF_TEXT);
            TokenIds::new(ids).unwrap()
        })
        .collect()
    };
    let lengths = numbers(2, PAIRS).into_iter().map(|x| 60 + x % 188);
    let short = numbers(3, PAIRS).into_iter().map(|x| 4 + x % 16);
    Batch {
        pixels: Tensor::from_vec(pixels, (PAIRS, 3, size, size), &Device::Cpu).unwrap(),
        long: captions(0, lengths.collect()),
        short: Some(captions(1, short.collect())),
    }
}

/// The first pairs alone, in the same parts of unlike sizes: for what is not held against PyTorch.
const FEW: usize = 12;
const PART: usize = 5;

fn few(size: usize) -> Batch {
    let mut batch = batch(size);
    batch.pixels = batch.pixels.narrow(0, 0, FEW).unwrap();
    batch.long.truncate(FEW);
    batch.short.as_mut().unwrap().truncate(FEW);
    batch
}

/// The settings for [`few`] pairs.
fn few_settings(scope: Scope, micro_batch: usize) -> Settings {
    let mut settings = settings(scope, micro_batch);
    settings.objective.short = Short::Principal { rank: 4 };
    settings
}

fn settings(scope: Scope, micro_batch: usize) -> Settings {
    Settings {
        scope,
        objective: Objective {
            label_smoothing: 0.1,
            short: Short::Principal { rank: 32 },
            short_weight: 1.0,
        },
        optimizer: Optimizer {
            rate: 1e-4,
            betas: [0.9, 0.999],
            epsilon: 1e-8,
            weight_decay: 1e-2,
        },
        schedule: Schedule {
            warm_up: 4,
            total: 20,
            shape: Shape::Cosine,
        },
        clip_norm: Some(1.0),
        most_logit_scale: None,
        micro_batch,
        frozen_positions: 20,
        seed: 0,
    }
}

struct Model {
    checkpoint: Checkpoint,
    size: usize,
}

/// The checkpoint from which training.py started.
fn model() -> Model {
    let folder = tempfile::tempdir().unwrap();
    unpack::unpack("longclip-patch16.pt", folder.path());
    let path = folder.path().join("longclip-patch16.pt");
    let compute = Compute::Kernel(CpuPrecision::F32);
    let (checkpoint, _) = load(&path, Activation::QuickGelu, &compute);
    let ImageTower::VisionTransformer(sizes) = &checkpoint.architecture.image else {
        panic!("not a vision transformer")
    };
    let size = sizes.image_size;
    Model { checkpoint, size }
}

fn values(sum: &Sum) -> Vec<f32> {
    match sum {
        Sum::Host(values) => values.clone(),
        Sum::Device(tensor) => flat(tensor),
    }
}

/// PyTorch's gradients; rows of the token embedding that no caption uses are omitted.
fn expected() -> (BTreeMap<String, Vec<f32>>, Vec<f32>, Vec<f32>) {
    let path = unpack::data_folder().join("expected/training.safetensors");
    let archive = open(&path).unwrap();
    let mut gradients = BTreeMap::new();
    for (name, tensor) in &archive.tensors {
        if let Some(scale) = archive.tensors.get(&format!("scale:{name}")) {
            let scale = scale.to_f32().unwrap()[0];
            let values = tensor.to_f32().unwrap();
            let values = values.into_iter().map(|x| x * scale).collect();
            gradients.insert(name.clone(), values);
        }
    }
    let read = |name: &str| archive.tensors[name].to_f32().unwrap();
    (gradients, read("loss"), read("steps"))
}

fn assert_gradients(
    what: &str,
    found: &BTreeMap<String, Sum>,
    expected: &BTreeMap<String, Vec<f32>>,
) {
    let names: Vec<_> = found.keys().collect();
    assert_eq!(names, expected.keys().collect::<Vec<_>>(), "{what}");
    let most = |values: &[f32]| values.iter().fold(0f32, |most, x| most.max(x.abs()));
    let largest = expected.values().map(|v| most(v)).fold(0f32, f32::max);
    for (name, expected) in expected {
        let mut found = values(&found[name]);
        if name.ends_with("token_embedding.weight") {
            let width = found.len() / 49408;
            let unused = found.drain(301 * width..START_OF_TEXT as usize * width);
            assert!(unused.into_iter().all(|x| x == 0.0), "{what}: {name}");
        }
        assert_eq!(found.len(), expected.len(), "{what}: {name}");
        // Plus half a quantisation step of the stored integers.
        let own = most(expected);
        let allowed = 1e-4 * own + 1e-7 * largest + own / 65534.0;
        let worst = found.iter().zip(expected).map(|(a, b)| (a - b).abs());
        let worst = worst.fold(0f32, |worst, d| {
            if d.is_nan() {
                f32::INFINITY
            } else {
                worst.max(d)
            }
        });
        assert!(
            worst <= allowed,
            "{what}: {name} is off by {worst:e}, its largest is {own:e}"
        );
    }
}

#[test]
fn gradients_match_long_clips_own_loss() {
    let Model { checkpoint, size } = model();
    let batch = batch(size);
    let (expected, losses, _) = expected();
    let kernel = Compute::Kernel(CpuPrecision::F32);
    let plain = Compute::Candle(Device::Cpu, DType::F32);
    // All 48 pairs at once, and in unequal parts.
    for (compute, micro_batch) in [(kernel.clone(), 48), (kernel, 20), (plain, 20)] {
        let what = format!("{compute:?}, {micro_batch} at once");
        let trainer = Trainer::new(&checkpoint, &compute, settings(Scope::Full, micro_batch));
        let (loss, mut sums) = trainer.unwrap().gradient(&batch).unwrap();
        assert!(
            (loss.long as f32 - losses[0]).abs() < 1e-4,
            "{what}: {loss:?}"
        );
        assert!(
            (loss.short.unwrap() as f32 - losses[1]).abs() < 1e-4,
            "{what}"
        );
        freeze(&mut sums);
        assert_gradients(&what, &sums, &expected);
    }
}

/// Long-CLIP freezes the first 20 positions.
fn freeze(sums: &mut BTreeMap<String, Sum>) {
    let name = "text_model.embeddings.position_embedding.weight";
    let mut gradient = values(&sums[name]);
    let width = gradient.len() / 248;
    gradient[..20 * width].fill(0.0);
    sums.insert(name.to_owned(), Sum::Host(gradient));
}

#[test]
fn twenty_steps_follow_pytorch() {
    steps_follow_pytorch(&Compute::Kernel(CpuPrecision::F32));
}

/// The optimiser of GPUs.
#[test]
fn twenty_steps_on_candle_follow_pytorch() {
    steps_follow_pytorch(&Compute::Candle(Device::Cpu, DType::F32));
}

fn steps_follow_pytorch(compute: &Compute) {
    let Model { checkpoint, size } = model();
    let batch = batch(size);
    let (_, _, steps) = expected();
    let mut settings = settings(Scope::Full, 48);
    // Large enough that a wrong or missing decay would show.
    settings.optimizer.weight_decay = 10.0;
    let mut trainer = Trainer::new(&checkpoint, compute, settings).unwrap();
    let mut fell = 0.0;
    for (i, expected) in steps.chunks_exact(3).enumerate() {
        let found = trainer.step(&batch).unwrap();
        let what = format!("{compute:?}, step {i}: {found:?}, expected {expected:?}");
        let long = found.long_loss as f32 - expected[0];
        let short = found.short_loss.unwrap() as f32 - expected[1];
        let norm = found.gradient_norm as f32 / expected[2] - 1.0;
        assert!(long.abs() < 1e-3 && short.abs() < 1e-3, "{what}");
        assert!(norm.abs() < 1e-2, "{what}");
        fell = f64::from(steps[0]) - found.long_loss;
    }
    assert!(fell > 0.3, "the steps should change the loss more: {fell}");
}

#[test]
fn a_failed_step_is_an_error_and_a_stopped_one_changes_nothing() {
    let Model { checkpoint, size } = model();
    let batch = few(size);
    for compute in [
        Compute::Kernel(CpuPrecision::F32),
        Compute::Candle(Device::Cpu, DType::F32),
    ] {
        let mut settings = few_settings(Scope::Full, PART);
        settings.schedule.warm_up = 0;
        let mut trainer = Trainer::new(&checkpoint, &compute, settings.clone()).unwrap();
        let before = trainer.state().unwrap();
        // Called once per part in the forward pass and again in the backward pass: the fifth call
        // is in the latter.
        let asked = std::cell::Cell::new(0);
        let stop = || asked.replace(asked.get() + 1) == 4;
        assert_eq!(trainer.step_unless(&batch, &stop).unwrap(), None);
        assert_eq!((asked.get(), trainer.steps_done()), (5, 0));
        assert!(trainer.is_sound());
        for (name, tensor) in trainer.state().unwrap() {
            assert_eq!(
                tensor.to_f32().unwrap(),
                before[&name].to_f32().unwrap(),
                "{name}"
            );
        }
        settings.optimizer.rate = 1e39;
        let mut trainer = Trainer::new(&checkpoint, &compute, settings).unwrap();
        let error = trainer.step(&batch).unwrap_err().to_string();
        assert!(error.contains("not finite"), "{error}");
        assert!(!trainer.is_sound());
        assert_eq!(trainer.steps_done(), 0);
    }
}

#[test]
fn every_scope_trains_exactly_its_parameters() {
    let Model { checkpoint, size } = model();
    let (batch, few) = (batch(size), few(size));
    let compute = Compute::Kernel(CpuPrecision::F32);
    let (all, _, _) = expected();
    let lora = Lora {
        rank: 4,
        alpha: 8.0,
        targets: vec![Target::Query, Target::Value, Target::Fc2],
    };
    let text = |name: &str| name.starts_with("text_");
    let projection = |name: &str| name.ends_with("_projection.weight");
    type Trained<'a> = Box<dyn Fn(&str) -> bool + 'a>;
    let scopes: [(Scope, Trained); 5] = [
        (Scope::Full, Box::new(|_| true)),
        (
            Scope::Text,
            Box::new(move |name| text(name) || name == "logit_scale"),
        ),
        (Scope::Image, Box::new(move |name| !text(name))),
        (
            Scope::Head,
            Box::new(move |name| projection(name) || name == "logit_scale"),
        ),
        (
            Scope::Lora(lora),
            Box::new(|name| {
                ["q_proj.weight", "v_proj.weight", "fc2.weight"]
                    .iter()
                    .any(|t| name.ends_with(t))
            }),
        ),
    ];
    for (scope, trained) in scopes {
        let is_lora = matches!(scope, Scope::Lora(_));
        if !is_lora {
            // Frozen layers get no gradient and do not change those of others.
            let settings = settings(scope.clone(), 20);
            let trainer = Trainer::new(&checkpoint, &compute, settings).unwrap();
            let (_, mut sums) = trainer.gradient(&batch).unwrap();
            if sums.contains_key("text_model.embeddings.position_embedding.weight") {
                freeze(&mut sums);
            }
            let wanted = all.iter().filter(|(name, _)| trained(name));
            let wanted = wanted.map(|(name, v)| (name.clone(), v.clone())).collect();
            assert_gradients(&format!("{scope:?}"), &sums, &wanted);
        }
        let mut settings = few_settings(scope.clone(), PART);
        // One step at the full rate.
        settings.schedule.warm_up = 0;
        settings.optimizer.weight_decay = 0.0;
        let mut trainer = Trainer::new(&checkpoint, &compute, settings).unwrap();
        let before = trainer.gradient(&few).unwrap().0.total;
        for _ in 0..3 {
            trainer.step(&few).unwrap();
        }
        assert!(
            trainer.gradient(&few).unwrap().0.total < before,
            "{scope:?}"
        );
        for (name, tensor) in trainer.tensors().unwrap() {
            let (found, old) = (
                tensor.to_f32().unwrap(),
                checkpoint.tensors[&name].to_f32().unwrap(),
            );
            assert_eq!(found != old, trained(&name), "{scope:?}: {name}");
            if name == "text_model.embeddings.position_embedding.weight" {
                let frozen = 20 * found.len() / 248;
                assert_eq!(found[..frozen], old[..frozen], "{scope:?}");
            }
        }
        assert_eq!(trainer.adapter().unwrap().is_some(), is_lora);
    }
}

#[test]
fn lora_gradients_are_projections_of_the_full_gradient() {
    let Model { checkpoint, size } = model();
    let batch = few(size);
    let lora = Lora {
        rank: 3,
        alpha: 6.0,
        targets: vec![Target::Key, Target::Out, Target::Fc1],
    };
    let compute = Compute::Kernel(CpuPrecision::F32);
    let mut trainer =
        Trainer::new(&checkpoint, &compute, few_settings(Scope::Lora(lora), FEW)).unwrap();
    // After one step, B is no longer zero.
    trainer.step(&batch).unwrap();
    let adapter = trainer.adapter().unwrap().unwrap();
    let mut changed = checkpoint_with(&checkpoint, trainer.tensors().unwrap());
    changed.name = "changed".to_owned();
    let whole = Trainer::new(&changed, &compute, few_settings(Scope::Full, FEW)).unwrap();
    let (_, whole) = whole.gradient(&batch).unwrap();
    let (_, thin) = trainer.gradient(&batch).unwrap();
    assert_eq!(thin.len(), adapter.len());
    let matrix = |values: Vec<f32>, rows: usize| {
        let columns = values.len() / rows;
        Tensor::from_vec(values, (rows, columns), &Device::Cpu).unwrap()
    };
    for name in thin.keys().filter_map(|name| name.strip_suffix(".lora_A")) {
        let path = name.strip_suffix(".weight").unwrap();
        let stored = |part: &str| {
            let tensor = &adapter[&format!("base_model.model.{path}.{part}.weight")];
            matrix(tensor.to_f32().unwrap(), tensor.shape()[0])
        };
        let (a, b) = (stored("lora_A"), stored("lora_B"));
        let out = b.dim(0).unwrap();
        let gradient = matrix(values(&whole[name]), out);
        // alpha / rank = 2.
        let of_a = (b.t().unwrap().matmul(&gradient).unwrap() * 2.0).unwrap();
        let of_b = (gradient.matmul(&a.t().unwrap()).unwrap() * 2.0).unwrap();
        for (part, exact) in [("lora_A", of_a), ("lora_B", of_b)] {
            let (found, exact) = (values(&thin[&format!("{name}.{part}")]), flat(&exact));
            let most = exact.iter().fold(0f32, |most, x| most.max(x.abs()));
            for (x, y) in found.iter().zip(&exact) {
                assert!((x - y).abs() <= 1e-3 * most, "{name} {part}: {x}, not {y}");
            }
        }
    }
}

fn checkpoint_with(like: &Checkpoint, tensors: longclip::checkpoint::Tensors) -> Checkpoint {
    like.with_tensors("trained", tensors)
}

#[test]
fn resuming_from_a_state_is_bit_identical() {
    let Model { checkpoint, size } = model();
    let batch = few(size);
    for compute in [
        Compute::Kernel(CpuPrecision::F32),
        Compute::Candle(Device::Cpu, DType::F32),
    ] {
        let new = || Trainer::new(&checkpoint, &compute, few_settings(Scope::Full, PART)).unwrap();
        let mut whole = new();
        for _ in 0..3 {
            whole.step(&batch).unwrap();
        }
        let state = whole.state().unwrap();
        let mut resumed = new();
        resumed.restore(&state, 3).unwrap();
        assert_eq!(whole.step(&batch).unwrap(), resumed.step(&batch).unwrap());
        let others = resumed.tensors().unwrap();
        for (name, tensor) in whole.tensors().unwrap() {
            let other = others[&name].to_f32().unwrap();
            assert_eq!(tensor.to_f32().unwrap(), other, "{name}");
        }
        // The state of another training is refused.
        let mut other =
            Trainer::new(&checkpoint, &compute, few_settings(Scope::Text, PART)).unwrap();
        assert!(other.restore(&state, 3).is_err());
    }
}

#[test]
fn the_trained_model_encodes_like_the_training_network() {
    let Model { checkpoint, size } = model();
    let batch = few(size);
    let compute = Compute::Kernel(CpuPrecision::F32);
    let mut trainer = Trainer::new(&checkpoint, &compute, few_settings(Scope::Full, FEW)).unwrap();
    for _ in 0..2 {
        trainer.step(&batch).unwrap();
    }
    let loss = trainer.gradient(&batch).unwrap().0.long;
    let trained = checkpoint_with(&checkpoint, trainer.tensors().unwrap());
    let clip: Clip = model::load(&trained, &compute).unwrap();
    let images = clip.encode_image(&batch.pixels).unwrap();
    let texts = clip.encode_text(&batch.long).unwrap();
    let cosines = images.matmul(&texts.t().unwrap()).unwrap();
    let logits = (cosines * f64::from(clip.logit_scale())).unwrap();
    let entropy = |logits: &Tensor| -> f64 {
        let rows = logits.to_vec2::<f32>().unwrap();
        let rows = rows.iter().enumerate().map(|(i, row)| {
            let sum: f64 = row.iter().map(|x| f64::from(*x).exp()).sum();
            let mean: f64 = row.iter().map(|x| f64::from(*x)).sum::<f64>() / row.len() as f64;
            sum.ln() - 0.9 * f64::from(row[i]) - 0.1 * mean
        });
        rows.sum::<f64>() / FEW as f64
    };
    let again = (entropy(&logits) + entropy(&logits.t().unwrap().contiguous().unwrap())) / 2.0;
    assert!((again - loss).abs() < 1e-4, "{again}, not {loss}");
}

#[test]
fn half_precision_gradients_point_the_same_way() {
    let Model { checkpoint, size } = model();
    let batch = batch(size);
    let (expected, losses, _) = expected();
    let compute = Compute::Candle(Device::Cpu, DType::BF16);
    let trainer = Trainer::new(&checkpoint, &compute, settings(Scope::Full, 48)).unwrap();
    let (loss, mut sums) = trainer.gradient(&batch).unwrap();
    // Logits are cosines times 100: the rounding of bf16 is visible.
    assert!(
        (loss.long as f32 / losses[0] - 1.0).abs() < 0.05,
        "{loss:?}"
    );
    freeze(&mut sums);
    let (mut both, mut ours, mut theirs) = (0.0, 0.0, 0.0);
    for (name, expected) in expected
        .iter()
        .filter(|(name, _)| !name.ends_with("token_embedding.weight"))
    {
        for (x, y) in values(&sums[name]).iter().zip(expected) {
            both += f64::from(x * y);
            ours += f64::from(x * x);
            theirs += f64::from(y * y);
        }
    }
    let cosine = both / (ours * theirs).sqrt();
    assert!(cosine > 0.98, "{cosine}");
}

#[test]
fn a_resnet_trains_its_text_tower() {
    let folder = tempfile::tempdir().unwrap();
    unpack::unpack_from("resnet", "resnet.pt", folder.path());
    let compute = Compute::Kernel(CpuPrecision::F32);
    let (checkpoint, _) = load(
        &folder.path().join("resnet.pt"),
        Activation::QuickGelu,
        &compute,
    );
    let refused = Trainer::new(&checkpoint, &compute, settings(Scope::Full, 4))
        .err()
        .unwrap();
    assert!(refused.to_string().contains("--train text"), "{refused}");
    let mut batch = few(checkpoint.architecture.image.image_size());
    let context = checkpoint.architecture.context_length;
    batch.long = batch.short.take().unwrap();
    assert!(batch.long.iter().all(|text| text.len() <= context));
    let mut settings = few_settings(Scope::Text, FEW);
    settings.objective.short = Short::None;
    settings.schedule.warm_up = 0;
    let mut trainer = Trainer::new(&checkpoint, &compute, settings).unwrap();
    let before = trainer.step(&batch).unwrap().loss;
    for _ in 0..2 {
        trainer.step(&batch).unwrap();
    }
    assert!(trainer.gradient(&batch).unwrap().0.total < before);
}
