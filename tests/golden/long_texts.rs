//! Texts longer than the context against a few lines of PyTorch, which `long_texts.py` ran.

use longclip::checkpoint::architecture::Activation;
use longclip::input::tokenizer::{Fitted, LongText, fit};
use longclip::model::Clip;
use longclip::task::class_embedding::ClassEmbeddings;
use serde_json::Value;

use super::{Expected, assert_close, computes, json, load, unpack};

fn policy(way: &Value) -> LongText {
    let stride = way["stride"].as_u64().map(|stride| stride as usize);
    match way["policy"].as_str().unwrap() {
        "chunk-mean" => LongText::ChunkMean,
        "slide" => LongText::Slide { stride },
        "best-chunk" => LongText::BestChunk,
        other => panic!("{other}"),
    }
}

/// Fits all prompts and checks their chunks.
fn fitted(classes: &Value, way: &Value, context_length: usize) -> Vec<Vec<Fitted>> {
    let lists = |value: &Value| value.as_array().unwrap().clone();
    let classes = lists(classes).into_iter().zip(lists(&way["chunks"]));
    classes
        .map(|(prompts, chunks)| {
            let prompts = lists(&prompts).into_iter().zip(lists(&chunks));
            prompts
                .map(|(prompt, expected)| {
                    let fitted = fit(prompt.as_str().unwrap(), context_length, policy(way));
                    let fitted = fitted.unwrap();
                    let ids = fitted.chunks.iter().map(|chunk| {
                        let ids = chunk.token_ids.as_slice();
                        Value::from(&ids[1..ids.len() - 1])
                    });
                    assert_eq!(ids.collect::<Value>(), expected, "{way}");
                    fitted
                })
                .collect()
        })
        .collect()
}

fn cosines_are(clip: &Clip, images: &[f32], classes: &[Vec<Fitted>], way: &Value, what: &str) {
    let classes = ClassEmbeddings::encode(clip, classes).unwrap();
    let rows = way["cosines"].as_array().unwrap();
    let expected: Vec<f32> = rows
        .iter()
        .flat_map(|row| row.as_array().unwrap())
        .map(|cosine| cosine.as_f64().unwrap() as f32)
        .collect();
    // As the golden logits, over their scale.
    assert_close(what, &classes.cosines(images), &expected, 2e-5);
}

#[test]
fn long_texts_are_cut_and_averaged_as_in_pytorch() {
    let expected = json(&unpack::data_folder().join("expected/long_texts.json"));
    for case in expected["cases"].as_array().unwrap() {
        let path = case["checkpoint"].as_str().unwrap();
        let context_length = case["context_length"].as_u64().unwrap() as usize;
        let images = Expected::read(case["case"].as_str().unwrap()).values("image_embeddings");
        let folder = tempfile::tempdir().unwrap();
        unpack::unpack(path, folder.path());
        for compute in computes() {
            let (_, clip) = load(&folder.path().join(path), Activation::QuickGelu, &compute);
            for way in case["ways"].as_array().unwrap() {
                let classes = fitted(&expected["classes"], way, context_length);
                let what = format!("{path} {} on {compute:?}", way["policy"]);
                cosines_are(&clip, &images, &classes, way, &what);
            }
        }
    }
}
