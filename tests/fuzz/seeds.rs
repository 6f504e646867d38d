//! Whole files for the readers, which the tests damage: written here, or (in
//! `tests/fixtures/readers`) by `longclip embed a.png b.png --model tiny -o rows.FORMAT` and
//! `longclip probe FOLDER --model tiny --method tip-adapter --out probe.safetensors`.

use std::collections::HashMap;
use std::fs;
use std::io::{Cursor, Write as _};
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;
use longclip::input::tokenizer;
use serde_json::{Map, Value, json};

use crate::fixtures;

/// What the seeds name, next to each of them.
pub(crate) fn furnish(folder: &Path) {
    for name in ["a.png", "b.png"] {
        fs::copy("tests/fixtures/image/size-3x5.png", folder.join(name)).unwrap();
    }
    fs::write(folder.join("a.safetensors"), "").unwrap();
    let part = folder.join("0_CLIPModel");
    fs::create_dir(&part).unwrap();
    fs::write(part.join("model.safetensors"), "").unwrap();
}

/// Whole files for the reader of `file`, which lie in `folder`.
pub(crate) fn of(file: &str, folder: &Path) -> Vec<Vec<u8>> {
    let kept = |name: &str| fs::read(Path::new("tests/fixtures/readers").join(name)).unwrap();
    let one = |text: &str| vec![text.as_bytes().to_vec()];
    let json = |value: Value| vec![value.to_string().into_bytes()];
    let tower = json!({"hidden_size": 64, "num_attention_heads": 2, "layer_norm_eps": 1e-5,
        "hidden_act": "gelu", "num_hidden_layers": 2, "intermediate_size": 256});
    match file {
        "weights.pt" => fixtures::all()
            .into_iter()
            .map(|(_, bytes)| bytes)
            .collect(),
        "image.bin" => [
            "rgb.png",
            "base.jpg",
            "palette.gif",
            "lossy.webp",
            "rgb.bmp",
            "rgb.ppm",
            "../photo/thumbnail.heic",
            "../photo/preview.dng",
        ]
        .map(|name| fs::read(Path::new("tests/fixtures/image").join(name)).unwrap())
        .to_vec(),
        "photo.heic" => ["crop", "grid", "ten", "thumbnail", "turned"]
            .iter()
            .map(|name| format!("tests/fixtures/photo/{name}.heic"))
            .map(|path| fs::read(path).unwrap())
            .collect(),
        "frames.gif" => frames(&["disposals.gif", "background.gif"]),
        "frames.png" => frames(&["blends.png", "palette.png", "default.png"]),
        "frames.webp" => frames(&["blends.webp"]),
        "frames.y4m" => ["420jpeg", "422", "mono"]
            .map(|coding| y4m(coding).into_bytes())
            .to_vec(),
        "frames.ppm" => one("P6\n3 2\n255\nabcdefghijklmnopqrP5 # grey\n2 2 255\nabcd"),
        "images.tar" => vec![labelled_tar()],
        "images.tar.gz" => {
            let mut writer = GzEncoder::new(Vec::new(), Compression::fast());
            writer.write_all(&labelled_tar()).unwrap();
            vec![writer.finish().unwrap()]
        }
        "images.tar.zst" => vec![zstd::encode_all(&labelled_tar()[..], 1).unwrap()],
        "images.zip" => vec![labelled_zip()],
        "images.parquet" => ["hub-snappy", "flat-gzip", "delta-zstd", "lengths-plain"]
            .map(|name| fs::read(format!("tests/fixtures/shard/{name}.parquet")).unwrap())
            .to_vec(),
        "pairs.tar" => vec![tar(false), tar(true)],
        "pairs.jsonl" => one(
            "{\"image\": \"a.png\", \"caption\": \"a cat. It sleeps.\"}\n\
             {\"image\": \"a.png\", \"caption\": [\"a dog\", \"no cat\"], \"short\": \"dog\"}\n",
        ),
        "pairs.csv" => one("image,caption,split\na.png,\"a \"\"cat\"\", asleep\",train\n"),
        "pairs.tsv" => one("image\tcaption\na.png\ta cat\na.png\ta dog\n"),
        "pairs.json" => json(json!([
            {"image": "a.png", "caption": "a cat"},
            {"image": "a.png", "conversations": [{"value": "what?"}, {"value": "a dog"}]},
        ])),
        "captions.json" => json(json!({
            "images": [{"id": 1, "file_name": "a.png"}],
            "annotations": [{"id": 7, "image_id": 1, "caption": "a cat \u{1f408}"}],
        })),
        "dataset.csv" => one("path,label\na.png,cat\nb.png,\"a, dog\"\n"),
        "dataset.json" => json(json!({"train": [["a.png", 0, "cat"]],
            "val": [["a.png", 1, "dog"]], "test": [["a.png", 0, "cat"], ["b.png", 1, "dog"]]})),
        "labels.txt" => vec![
            b"1. cat\n2. dog\n3. \xe7\x8c\xab\n".to_vec(),
            b"\xff\xfec\0a\0t\0\n\0d\0o\0g\0\n\0".to_vec(),
            b"['cat', 'dog', \"caf\\u00e9\"]".to_vec(),
        ],
        "labels.csv" => one("label,prompt,alias,key\ncat,a cat,kitten,n1\ndog,,,n2\n"),
        "labels.json" => vec![
            json!({"cat": ["a cat"], "dog": {"alias": ["pup"], "key": "n2"}})
                .to_string()
                .into(),
            json!({"id2label": {"0": "cat", "1": "dog"}})
                .to_string()
                .into(),
        ],
        "labels.yaml" => vec![
            b"# a list\n- cat\n- 'a \"dog\"'\n- bird\n".to_vec(),
            b"cat: [a cat, a kitten]\ndog: 'a dog'\n".to_vec(),
        ],
        "templates.txt" => one("# two\na photo of a {}.\n{label}, a drawing\n"),
        "list.txt" => one("./a.png\n# none\n/no/such.jpg\r\n"),
        "texts.txt" => one("a cat\ncaf\u{e9} &amp; a don\u{2019}t\n<|endoftext|> 12345\n"),
        "array.npy" => vec![npy("<f4", "(2, 4)", &[0.5_f32.to_le_bytes(); 8].concat())],
        "array.npz" => vec![zip("a.npy", &npy("<f2", "(3, 2)", &[0x3c; 12]))],
        "rows.npy.partial" => vec![rows_in_progress()],
        "calibration.json" => json(json!({"temperature": 1.5, "none_threshold": 0.25,
            "model": "m", "model_sha256": "a", "labels_sha256": "b"})),
        "run.json" => json(json!({"command": "classify", "format": "jsonl", "part_size": "10"})),
        "part-000000.json" => json(
            json!({"unit": 0, "share": "0/2", "inputs": "a", "answered": 1,
            "failed": 1, "failed_by_kind": {"decode": 1},
            "files": [{"name": "part-000000.jsonl", "bytes": 2, "sha256": "b"}]}),
        ),
        "units.json" => json(json!({"units": 3, "inputs": "a"})),
        "longclip-sorted.jsonl" => one(&sorted(folder)),
        "longclip-xmp.jsonl" => one(&labelled(folder)),
        "a.xmp" => one(
            "<?xpacket begin='\u{feff}' id='W5M0MpCehiHzreSzNTczkc9d'?>\n<x:xmpmeta \
             xmlns:x='adobe:ns:meta/'><rdf:RDF \
             xmlns:rdf='http://www.w3.org/1999/02/22-rdf-syntax-ns#'>\n <rdf:Description \
             rdf:about='' xmlns:dc='http://purl.org/dc/elements/1.1/'>\n  <dc:subject><rdf:Bag>\n   \
             <rdf:li>a &amp; b</rdf:li><rdf:li><![CDATA[c]]>&#100;</rdf:li>\n  </rdf:Bag>\
             </dc:subject>\n </rdf:Description>\n</rdf:RDF></x:xmpmeta>\n<?xpacket end='w'?>",
        ),
        "log.jsonl" => one(
            "{\"step\":1,\"epoch\":0,\"loss\":2.5,\"long_loss\":2.5,\"rate\":1e-6,\"logit_scale\":\
             14.0,\"gradient_norm\":1.5,\"images_per_second\":3.0,\"seconds\":0.5}\n",
        ),
        "config.json" => json(json!({"model_type": "clip", "projection_dim": 32,
            "text_config": tower, "vision_config": tower, "torch_dtype": "float32"})),
        "open_clip_config.json" => json(json!({
            "model_cfg": {"embed_dim": 32, "quick_gelu": true,
                "vision_cfg": {"image_size": 224, "layers": 2, "width": 64, "patch_size": 16},
                "text_cfg": {"context_length": 77, "heads": 2, "width": 64, "layers": 2}},
            "preprocess_cfg": {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.25, 0.5], "size": 224},
        })),
        "preprocessor_config.json" => json(processor()),
        "processor_config.json" => json(json!({"image_processor": processor()})),
        "tokenizer_config.json" => json(json!({"bos_token": {"content": "<|startoftext|>"},
            "eos_token": "<|endoftext|>", "model_max_length": 77,
            "tokenizer_class": "CLIPTokenizer", "pad_token": "<|endoftext|>"})),
        "vocab.json" => json(vocabulary()),
        "tokenizer.json" => json(json!({"model": {"type": "BPE", "vocab": vocabulary()}})),
        "model.safetensors.index.json" => {
            json(json!({"metadata": {}, "weight_map": {"a.weight": "a.safetensors"}}))
        }
        "modules.json" => json(json!([
            {"idx": 0, "name": "0", "path": "0_CLIPModel",
             "type": "sentence_transformers.models.CLIPModel"},
        ])),
        kept_file => vec![kept(kept_file)],
    }
}

fn frames(names: &[&str]) -> Vec<Vec<u8>> {
    let folder = Path::new("tests/fixtures/frames");
    let names = names.iter();
    names
        .map(|name| fs::read(folder.join(name)).unwrap())
        .collect()
}

/// A video of three frames of 4 x 2 pixels.
fn y4m(coding: &str) -> String {
    let samples = match coding {
        "mono" => 8,
        "422" => 16,
        _ => 12,
    };
    let frame = format!("FRAME\n{}", "j".repeat(samples));
    format!(
        "YUV4MPEG2 W4 H2 F25:1 Ip A1:1 C{coding}\n{}",
        frame.repeat(3)
    )
}

fn processor() -> Value {
    json!({"do_resize": true, "size": {"shortest_edge": 224}, "crop_size": 224, "resample": 3,
        "image_mean": [0.5, 0.5, 0.5], "image_std": 0.5, "rescale_factor": 1.0 / 255.0})
}

fn vocabulary() -> Value {
    let symbols = (0..).zip(0..tokenizer::VOCABULARY as u32);
    let pairs = symbols.map(|(id, _): (u32, _)| (tokenizer::symbol(id), Value::from(id)));
    Value::Object(pairs.collect::<Map<_, _>>())
}

/// An archive of a sample, with long names in GNU's form or in pax headers.
/// Images with a label each, as in WebDataset.
fn images() -> [(&'static str, Vec<u8>); 4] {
    let image = fs::read("tests/fixtures/image/size-3x5.png").unwrap();
    [
        ("a/0001.png", image.clone()),
        ("a/0001.cls", b"7".to_vec()),
        ("a/0002", image),
        ("a/0002.json", b"{\"label\": 3}".to_vec()),
    ]
}

fn labelled_tar() -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, content) in images() {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        builder
            .append_data(&mut header, name, &content[..])
            .unwrap();
    }
    builder.into_inner().unwrap()
}

fn labelled_zip() -> Vec<u8> {
    let mut writer = zip::ZipWriter::new(Cursor::new(Vec::new()));
    let options = zip::write::SimpleFileOptions::default();
    for (name, content) in images() {
        writer.start_file(name, options).unwrap();
        writer.write_all(&content).unwrap();
    }
    writer.finish().unwrap().into_inner()
}

fn tar(is_pax: bool) -> Vec<u8> {
    let image = fs::read("tests/fixtures/image/size-3x5.png").unwrap();
    let mut builder = tar::Builder::new(Vec::new());
    let long = format!("{}/0002", "d".repeat(120));
    for (name, content) in [
        ("0001.png", &image[..]),
        ("0001.txt", b"a cat. It sleeps."),
        (&format!("{long}.png"), &image),
        (&format!("{long}.txt"), b"a dog"),
    ] {
        let mut header = if is_pax {
            let pax = [("path", name.as_bytes()), ("comment", &b"x"[..])];
            builder.append_pax_extensions(pax).unwrap();
            tar::Header::new_ustar()
        } else {
            tar::Header::new_gnu()
        };
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        let name = if is_pax { "short" } else { name };
        builder.append_data(&mut header, name, content).unwrap();
    }
    builder.into_inner().unwrap()
}

/// A NumPy file with this header and these bytes.
fn npy(descr: &str, shape: &str, bytes: &[u8]) -> Vec<u8> {
    let text = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}\n");
    let mut file = b"\x93NUMPY\x01\x00".to_vec();
    file.extend((text.len() as u16).to_le_bytes());
    file.extend(text.bytes());
    file.extend(bytes);
    file
}

/// A zip with one stored member.
pub(crate) fn zip(name: &str, content: &[u8]) -> Vec<u8> {
    let mut common = vec![20, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    common.extend(crc32fast::hash(content).to_le_bytes());
    common.extend((content.len() as u32).to_le_bytes());
    common.extend((content.len() as u32).to_le_bytes());
    common.extend((name.len() as u16).to_le_bytes());
    common.extend([0, 0]);
    let mut file = [b"PK\x03\x04", &common[..], name.as_bytes(), content].concat();
    let directory = [
        b"PK\x01\x02\x14\x00",
        &common[..],
        &[0; 14],
        name.as_bytes(),
    ]
    .concat();
    let start = file.len() as u32;
    file.extend(&directory);
    file.extend(b"PK\x05\x06\0\0\0\0\x01\0\x01\0");
    file.extend((directory.len() as u32).to_le_bytes());
    file.extend(start.to_le_bytes());
    file.extend([0, 0]);
    file
}

/// The journal of `embed`: a header and a row.
fn rows_in_progress() -> Vec<u8> {
    let frame = |payload: &[u8]| {
        let mut frame = (payload.len() as u32).to_le_bytes().to_vec();
        frame.extend(crc32fast::hash(payload).to_le_bytes());
        frame.extend(payload);
        frame
    };
    let about = HashMap::from([
        ("format", "longclip embeddings 1".to_owned()),
        ("kind", "texts".to_owned()),
        ("model", format!("m@{}", "0".repeat(64))),
        ("dim", "2".to_owned()),
        ("dtype", "f32".to_owned()),
        ("precision", "f32".to_owned()),
        ("settings", String::new()),
        ("version", "0.1.0".to_owned()),
    ]);
    let line = b"{\"text\":\"a cat\"}\n";
    let header = serde_json::to_vec(&about).unwrap();
    let row = [b"R", &(line.len() as u32).to_le_bytes()[..], line, &[0; 8]].concat();
    [
        b"LCEMBED1".to_vec(),
        frame(&[b"H", &header[..]].concat()),
        frame(&row),
    ]
    .concat()
}

/// A list of sorted images in `folder`, where the image lies.
fn labelled(folder: &Path) -> String {
    let header = json!({"longclip": "xmp", "version": 1});
    let edit = json!({"at": 3, "old": "", "new": "<rdf:li>cat</rdf:li>"});
    let step = json!({"step": "label", "to": folder.join("a.xmp"), "labels": ["cat"],
        "after": "0".repeat(64), "edit": edit});
    format!("{header}\n{step}\n")
}

fn sorted(folder: &Path) -> String {
    let folder = folder.canonicalize().unwrap();
    let header = json!({"longclip": "sorted", "version": 1, "action": "copy",
        "folder": folder, "made": false});
    let step = json!({"step": "image", "from": folder.join("a.png"),
        "to": folder.join("cat/a.png"), "stamp": {"bytes": 118, "modified_ns": 0}});
    format!(
        "{header}\n{}\n{step}\n",
        json!({"step": "folder", "to": folder.join("cat")})
    )
}
