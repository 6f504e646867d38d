//! Times training steps on made-up pairs, for `training.py`.
//!
//!     train_step MODEL BATCH TOKENS STEPS
//!
//! Prints a line of JSON a step: seconds and loss; at the end the most memory the process had.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a benchmark stops at the first mistake and prints its figures"
)]

use std::time::Instant;

use candle_core::{Device, Tensor};
use longclip::checkpoint::architecture::ImageTower;
use longclip::checkpoint::hub::{self, Silent};
use longclip::checkpoint::{Checkpoint, source};
use longclip::input::tokenizer::{END_OF_TEXT, START_OF_TEXT, TokenIds};
use longclip::model::device::{Compute, CpuPrecision};
use longclip::train::{
    Batch, Objective, Optimizer, Schedule, Scope, Settings, Shape, Short, Trainer,
};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |i: usize| -> usize { arguments[i].parse().unwrap() };
    let (n, tokens, steps) = (number(1), number(2), number(3));
    let source = source::resolve(&arguments[0], &hub::Settings::from_env(), &Silent).unwrap();
    let checkpoint = Checkpoint::load(&source, &None.into()).unwrap();
    let ImageTower::VisionTransformer(sizes) = &checkpoint.architecture.image else {
        panic!("a vision transformer is needed")
    };
    let size = sizes.image_size;
    let settings = Settings {
        scope: Scope::Full,
        objective: Objective {
            label_smoothing: 0.1,
            short: Short::None,
            short_weight: 1.0,
        },
        optimizer: Optimizer {
            rate: 1e-6,
            betas: [0.9, 0.999],
            epsilon: 1e-8,
            weight_decay: 1e-2,
        },
        schedule: Schedule {
            warm_up: 0,
            total: 1000,
            shape: Shape::Constant,
        },
        clip_norm: None,
        most_logit_scale: None,
        micro_batch: n,
        frozen_positions: 20,
        seed: 0,
    };
    let compute = Compute::Kernel(CpuPrecision::F32);
    let mut trainer = Trainer::new(&checkpoint, &compute, settings).unwrap();
    let pixel = |i: usize| ((i * 7919) % 1009) as f32 / 504.5 - 1.0;
    let pixels: Vec<f32> = (0..n * 3 * size * size).map(pixel).collect();
    let caption = |i: usize| {
        let mut ids = vec![START_OF_TEXT];
        ids.extend((0..tokens - 2).map(|k| ((i * 131 + k * 7919) % 40_000 + 1) as u32));
        ids.push(END_OF_TEXT);
        TokenIds::new(ids).unwrap()
    };
    let batch = Batch {
        pixels: Tensor::from_vec(pixels, (n, 3, size, size), &Device::Cpu).unwrap(),
        long: (0..n).map(caption).collect(),
        short: None,
    };
    for _ in 0..steps {
        let start = Instant::now();
        let progress = trainer.step(&batch).unwrap();
        let seconds = start.elapsed().as_secs_f64();
        println!("{{\"seconds\":{seconds},\"loss\":{}}}", progress.loss);
    }
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let most = status.lines().find(|line| line.starts_with("VmHWM"));
    println!("{}", serde_json::json!({"memory": most}));
}
