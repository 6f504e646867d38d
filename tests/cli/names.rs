//! Names for models, and environment variables that affect a run.

use crate::room::Room;
use crate::small;

const ARGUMENTS: [&str; 5] = ["classify", "a.png", "--labels", "a", "b"];

fn room() -> Room {
    Room::with(&["a.png"])
}

#[test]
fn names_of_models_elsewhere_suggest_the_name_here() {
    let room = room();
    for (typed, name) in [
        ("ViT-B/32", "clip-vit-b-32"),
        ("ViT-B-32", "clip-vit-b-32"),
        ("ViT-B-16-quickgelu", "clip-vit-b-16"),
        ("ViT-L/14@336px", "clip-vit-l-14-336"),
        ("clip-vit-base-patch32", "clip-vit-b-32"),
        ("openai/ViT-B-32", "clip-vit-b-32"),
        ("LongCLIP-B", "longclip-b"),
        ("longclip-B.pt", "longclip-b"),
        ("RN50", "timm/resnet50_clip.openai"),
        ("https://example.org/models/ViT-B-32.pt", "clip-vit-b-32"),
    ] {
        let arguments = [&ARGUMENTS[..], &["-m", typed]].concat();
        // An address without a listener: a request would exit with 75.
        let ran = room.longclip(&arguments, &[("HF_ENDPOINT", "http://127.0.0.1:9")]);
        ran.ends_with(2).says(&[&format!("did you mean {name}?")]);
    }
}

#[test]
fn other_forms_of_a_repositorys_name_mean_the_repository() {
    let room = room();
    let endpoint = "http://127.0.0.1:9";
    for typed in [
        "hf-hub:laion/model",
        "hf://laion/model",
        "http://127.0.0.1:9/laion/model",
        "http://127.0.0.1:9/laion/model/tree/main",
    ] {
        let arguments = [&ARGUMENTS[..], &["-m", typed]].concat();
        let variables = [("HF_ENDPOINT", endpoint), ("HF_HUB_OFFLINE", "1")];
        let ran = room.longclip(&arguments, &variables).ends_with(2);
        ran.says(&["(laion/model) is not cached", "hf download laion/model"]);
    }
}

#[test]
fn transformers_offline_forbids_requests_as_hf_hub_offline_does() {
    let room = room();
    let endpoint = ("HF_ENDPOINT", "http://127.0.0.1:9");
    let arguments = [&ARGUMENTS[..], &["-m", "longclip-b"]].concat();
    for value in ["1", "true", "YES"] {
        let variables = [endpoint, ("TRANSFORMERS_OFFLINE", value)];
        let ran = room.longclip(&arguments, &variables).ends_with(2);
        ran.says(&["is not cached", "TRANSFORMERS_OFFLINE"]);
    }
}

#[test]
fn an_unknown_kernel_level_is_an_error() {
    let room = room();
    let arguments = [&ARGUMENTS[..], &["-m", small::model()]].concat();
    let foreign = if cfg!(target_arch = "x86_64") {
        "neon"
    } else {
        "avx2"
    };
    for value in ["nonsense", "AVX2", foreign] {
        let ran = room.longclip(&arguments, &[("LONGCLIP_KERNEL", value)]);
        let said = [&format!("LONGCLIP_KERNEL={value}"), "use one of scalar"];
        let ran = ran.ends_with(2).says(&said);
        assert_eq!(ran.out, "");
    }
    for value in ["scalar", ""] {
        let ran = room.longclip(&arguments, &[("LONGCLIP_KERNEL", value)]);
        ran.ends_with(0);
    }
}
