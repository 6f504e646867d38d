//! Hidden states against transformers' (`hidden.py`).

use longclip::input::tokenizer::PaddedIds;
use longclip::model::{Layer, Patches};

use super::*;

#[test]
fn states_are_those_of_transformers() {
    let folder = tempfile::tempdir().unwrap();
    let expected = open(&unpack::data_folder().join("expected/hidden.safetensors")).unwrap();
    let values = |name: &str| expected.tensors[name].to_f32().unwrap();
    let texts = json(&unpack::data_folder().join("expected/texts.json"));
    let texts = [0, 3].map(|at: usize| texts[at]["text"].as_str().unwrap().to_owned());
    for (case, activation) in [
        ("hf-patch16", Activation::QuickGelu),
        ("hf-gelu-patch32", Activation::Gelu),
    ] {
        unpack::unpack(&format!("{case}/"), folder.path());
        for compute in computes() {
            let (checkpoint, clip) = load(&folder.path().join(case), activation, &compute);
            let architecture = &checkpoint.architecture;
            let (context, layers) = (architecture.context_length, architecture.text.layers);
            for pad in [49407, 0] {
                let padded: Vec<_> = texts
                    .iter()
                    .map(|text| PaddedIds::new(text, context, pad).unwrap())
                    .collect();
                for (index, name) in (0..=layers)
                    .map(|index| (index, index.to_string()))
                    .chain([(layers, "normed".to_owned())])
                {
                    let is_normed = name == "normed";
                    let layer = Layer { index, is_normed };
                    let what = format!("{case} {pad} {name}");
                    let states = clip.text_states(&padded, layer).unwrap();
                    let projected = values(&format!("{case} {pad} projected"));
                    assert_close(&what, &states.projected, &projected, 1e-5);
                    let width = architecture.text.width;
                    let of_text = states.rows.chunks_exact(context * width);
                    for (text, rows) in of_text.enumerate() {
                        let tokens = tokenizer::encode(&texts[text]).len();
                        let places = [0, tokens - 1, tokens, context - 1];
                        let found: Vec<f32> = places
                            .iter()
                            .flat_map(|place| rows[place * width..][..width].to_vec())
                            .collect();
                        assert_close(&what, &found, &values(&format!("{what} {text}")), 1e-5);
                    }
                }
            }
            let pixels = Expected::read(case).tensor("pixels");
            let pixels = pixels.narrow(0, 0, 2).unwrap();
            let states = Patches::new(clip).unwrap().encode_image(&pixels).unwrap();
            let expected = values(&format!("{case} patches"));
            assert_close(case, &flat(&states), &expected, 1e-5);
        }
    }
}
