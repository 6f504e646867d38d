//! Stretched text positional embeddings.

use safetensors::SafeTensors;

use super::{checkpoint, fails, longclip, run, text, unpack};
use longclip::checkpoint::layout::TEXT_POSITIONS;

fn floats(view: &safetensors::tensor::TensorView<'_>) -> Vec<f32> {
    let bytes = view.data().as_chunks::<4>().0;
    bytes.iter().map(|b| f32::from_le_bytes(*b)).collect()
}

#[test]
fn positions_match_long_clips_own_code() {
    // Computed by `load_from_clip` of the Long-CLIP repository from this table.
    let path = unpack::data_folder().join("expected/stretch.safetensors");
    let bytes = std::fs::read(path).unwrap();
    let expected = SafeTensors::deserialize(&bytes).unwrap();
    let expected = floats(&expected.tensor("stretched").unwrap());
    let folder = tempfile::tempdir().unwrap();
    unpack::unpack("hf-patch16", folder.path());
    let output = folder.path().join("long.safetensors");
    run(&[
        "stretch",
        text(&folder.path().join("hf-patch16")),
        text(&output),
    ]);
    let found = checkpoint(&output, None).tensors[TEXT_POSITIONS]
        .to_f32()
        .unwrap();
    assert_eq!(found.len(), expected.len());
    for (a, b) in found.iter().zip(&expected) {
        assert!((a - b).abs() <= 1e-6, "{a} {b}");
    }
}

#[test]
fn a_stretched_model_reads_long_texts() {
    let folder = tempfile::tempdir().unwrap();
    unpack::unpack("hf-patch16", folder.path());
    let short = folder.path().join("hf-patch16");
    let long = folder.path().join("long");
    run(&["stretch", text(&short), text(&long)]);
    let label = "a red apple on a table ".repeat(40);
    let image = concat!(env!("CARGO_MANIFEST_DIR"), "/assets/demo/coffee.jpg");
    let classify = |model: &std::path::Path| {
        let all = [
            "classify",
            image,
            "--model",
            text(model),
            "--labels",
            &label,
            "a cat",
        ];
        longclip(&all).output().unwrap()
    };
    let refused = classify(&short);
    assert_eq!(refused.status.code(), Some(2));
    let answered = classify(&long);
    assert!(
        answered.status.success(),
        "{}",
        String::from_utf8_lossy(&answered.stderr)
    );
    // The first 20 positions are unchanged, so short texts give the same embeddings.
    let (before, after) = (checkpoint(&short, None), checkpoint(&long, None));
    assert_eq!(after.architecture.context_length, 248);
    let rows = |c: &longclip::checkpoint::Checkpoint| c.tensors[TEXT_POSITIONS].to_f32().unwrap();
    let kept = 20 * before.architecture.text.width;
    assert_eq!(rows(&before)[..kept], rows(&after)[..kept]);
}

#[test]
fn other_parameters_and_methods() {
    let folder = tempfile::tempdir().unwrap();
    unpack::unpack("hf-patch16", folder.path());
    let input = folder.path().join("hf-patch16");
    let output = folder.path().join("out.safetensors");
    let stretch = |more: &[&str]| {
        let mut all = vec!["stretch", text(&input), text(&output), "--force"];
        all.extend(more);
        run(&all);
        checkpoint(&output, None).architecture.context_length
    };
    assert_eq!(stretch(&[]), 248);
    assert_eq!(stretch(&["--ratio", "2"]), 134);
    assert_eq!(stretch(&["--keep", "40", "--ratio", "4"]), 188);
    assert_eq!(stretch(&["--to", "512"]), 512);
    assert_eq!(stretch(&["--method", "linear", "--to", "248"]), 248);
    let cases: [&[&str]; 4] = [
        &["--keep", "77"],
        &["--ratio", "0.5"],
        &["--to", "10"],
        &["--ratio", "2", "--to", "248"],
    ];
    for more in cases {
        let mut all = vec!["stretch", text(&input), text(&output), "--force"];
        all.extend(more);
        fails(&all, 2);
    }
}
