//! CLIP's ResNets against openai/CLIP's own network, on the tiny checkpoint that `resnet.py` made.

use candle_core::{DType, Device, Tensor};
use longclip::checkpoint::Checkpoint;
use longclip::checkpoint::architecture::{Activation, ImageTower, ResNet};
use longclip::model::device::CpuPrecision;
use longclip::model::{Clip, Compute, DualEncoder};

use super::{Expected, assert_close, computes, flat, load, numbers_are, unpack};

/// One packed checkpoint, computed in some way.
fn loaded(path: &str, compute: &Compute) -> (Checkpoint, Clip) {
    let folder = tempfile::tempdir().unwrap();
    unpack::unpack_from("resnet", path, folder.path());
    load(&folder.path().join(path), Activation::QuickGelu, compute)
}

/// Noise and images of 64 x 64 pixels, which another case keeps.
fn pixels() -> Tensor {
    Expected::read("hf-gelu-patch32").tensor("pixels")
}

#[test]
fn resnets_give_the_numbers_of_the_reference() {
    let expected = Expected::read_file("resnet/expected.safetensors");
    for path in ["resnet.pt", "resnet-open-clip"] {
        for compute in computes() {
            let what = format!("{path} on {compute:?}");
            let (checkpoint, clip) = loaded(path, &compute);
            let sizes = ResNet {
                image_size: 64,
                width: 6,
                blocks: [1, 2, 1, 1],
                heads: 3,
            };
            let architecture = &checkpoint.architecture;
            assert_eq!(architecture.image, ImageTower::ResNet(sizes), "{what}");
            assert_eq!(architecture.embed_dim, 40, "{what}");
            numbers_are(&clip, &pixels(), &expected, &what);
        }
    }
}

#[test]
fn a_resnet_gives_the_same_bytes_in_any_batch_and_on_any_threads() {
    let (_, clip) = loaded("resnet.pt", &Compute::Kernel(CpuPrecision::F32));
    // More than pass through the later stages together.
    let pixels = Tensor::cat(&[&pixels(), &pixels()], 0).unwrap();
    let dim = clip.architecture().embed_dim;
    for threads in [1, 3] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
        pool.build().unwrap().install(|| {
            let batch = flat(&clip.encode_image(&pixels).unwrap());
            for (row, together) in batch.chunks_exact(dim).enumerate() {
                let single = clip.encode_image(&pixels.narrow(0, row, 1).unwrap());
                assert_eq!(
                    flat(&single.unwrap()),
                    together,
                    "image {row}, {threads} threads"
                );
            }
        });
    }
}

#[test]
fn every_precision_of_a_resnet_is_near_the_reference() {
    let expected = Expected::read_file("resnet/expected.safetensors").values("image_embeddings");
    let encode = |compute: Compute| {
        let (_, clip) = loaded("resnet.pt", &compute);
        flat(&clip.encode_image(&pixels()).unwrap())
    };
    let bf16 = encode(Compute::Kernel(CpuPrecision::Bf16));
    assert_close("bf16", &bf16, &expected, 0.03);
    for precision in [CpuPrecision::Int8, CpuPrecision::Int8Fast] {
        // 8 bits mean bf16 in convolutions.
        assert_eq!(encode(Compute::Kernel(precision)), bf16, "{precision:?}");
    }
    let candle = encode(Compute::Candle(Device::Cpu, DType::F32));
    assert_close("candle", &candle, &expected, 2e-5);
}
