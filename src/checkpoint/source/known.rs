//! Names of models elsewhere: those of openai/CLIP, open_clip, published files and repositories, in
//! any spelling.

use super::alias::ALIASES;
use super::choice;

/// Owners of the repositories behind the short names.
const OWNERS: [&str; 2] = ["openai", "beichenzhang"];

/// Architectures without a short name, as [`normal`] writes them, with a repository for each.
const OTHERS: [(&str, &str); 8] = [
    ("rn50", "timm/resnet50_clip.openai"),
    ("rn101", "timm/resnet101_clip.openai"),
    ("rn50x4", "timm/resnet50x4_clip.openai"),
    ("rn50x16", "timm/resnet50x16_clip.openai"),
    ("rn50x64", "timm/resnet50x64_clip.openai"),
    ("vith14", "laion/CLIP-ViT-H-14-laion2B-s32B-b79K"),
    ("vitg14", "laion/CLIP-ViT-g-14-laion2B-s34B-b88K"),
    ("vitbigg14", "laion/CLIP-ViT-bigG-14-laion2B-39B-b160k"),
];

/// open_clip's names and weight tags, with the repository that open_clip downloads from.
const TAGGED: [(&str, &str, &str); 19] = [
    (
        "vitb32",
        "laion2b_e16",
        "timm/vit_base_patch32_clip_224.laion2b_e16",
    ),
    (
        "vitb32",
        "laion2b_s34b_b79k",
        "laion/CLIP-ViT-B-32-laion2B-s34B-b79K",
    ),
    (
        "vitb32",
        "datacomp_xl_s13b_b90k",
        "laion/CLIP-ViT-B-32-DataComp.XL-s13B-b90K",
    ),
    (
        "vitb32",
        "metaclip_400m",
        "timm/vit_base_patch32_clip_224.metaclip_400m",
    ),
    (
        "vitb32",
        "metaclip_fullcc",
        "timm/vit_base_patch32_clip_224.metaclip_2pt5b",
    ),
    (
        "vitb16",
        "laion2b_s34b_b88k",
        "laion/CLIP-ViT-B-16-laion2B-s34B-b88K",
    ),
    (
        "vitb16",
        "datacomp_xl_s13b_b90k",
        "laion/CLIP-ViT-B-16-DataComp.XL-s13B-b90K",
    ),
    ("vitb16", "dfn2b", "apple/DFN2B-CLIP-ViT-B-16"),
    (
        "vitb16",
        "metaclip_400m",
        "timm/vit_base_patch16_clip_224.metaclip_400m",
    ),
    (
        "vitb16",
        "metaclip_fullcc",
        "timm/vit_base_patch16_clip_224.metaclip_2pt5b",
    ),
    (
        "vitl14",
        "laion2b_s32b_b82k",
        "laion/CLIP-ViT-L-14-laion2B-s32B-b82K",
    ),
    (
        "vitl14",
        "datacomp_xl_s13b_b90k",
        "laion/CLIP-ViT-L-14-DataComp.XL-s13B-b90K",
    ),
    ("vitl14", "dfn2b", "apple/DFN2B-CLIP-ViT-L-14"),
    (
        "vitl14",
        "metaclip_fullcc",
        "timm/vit_large_patch14_clip_224.metaclip_2pt5b",
    ),
    (
        "vith14",
        "laion2b_s32b_b79k",
        "laion/CLIP-ViT-H-14-laion2B-s32B-b79K",
    ),
    ("vith14", "dfn5b", "apple/DFN5B-CLIP-ViT-H-14"),
    (
        "vitg14",
        "laion2b_s12b_b42k",
        "laion/CLIP-ViT-g-14-laion2B-s12B-b42K",
    ),
    (
        "vitg14",
        "laion2b_s34b_b88k",
        "laion/CLIP-ViT-g-14-laion2B-s34B-b88K",
    ),
    (
        "vitbigg14",
        "laion2b_s39b_b160k",
        "laion/CLIP-ViT-bigG-14-laion2B-39B-b160k",
    ),
];

/// The hint for open_clip's `MODEL/TAG` if the tag is not OpenAI's.
pub(super) fn tagged(typed: &str) -> Option<String> {
    let (name, tag) = typed.split_once('/')?;
    let (name, tag) = (name_here(name).map(|_| normal(name))?, tag.to_lowercase());
    // `ViT-B/32` is a model name, as are the repositories of its publishers.
    let is_open_clips = name.starts_with("vit") || name.starts_with("rn");
    let is_path = tag.contains('/') || choice::is_weights_name(&tag);
    if tag == "openai" || !is_open_clips || is_path || name_here(&format!("{name}{tag}")).is_some()
    {
        return None;
    }
    let found = TAGGED
        .iter()
        .find(|known| known.0 == name && known.1 == tag);
    Some(match found {
        Some((.., repository)) => {
            format!("{typed:?} is an open_clip name; did you mean {repository}?")
        }
        None => format!(
            "{typed:?} is an open_clip name, and the weights of its tag {tag:?} have no short name \
             here; name the repository that has them, as OWNER/REPO"
        ),
    })
}

/// The short name of the model that `typed` names in another program. Names that are valid here
/// (`OWNER/REPO` of another owner, a short name) give `None`.
pub(super) fn name_here(typed: &str) -> Option<&'static str> {
    let id = typed.split(['@', ':']).next().unwrap_or(typed);
    if ALIASES.iter().any(|alias| alias.repository == id) {
        return None;
    }
    let name = match typed.split_once('/') {
        Some((owner, name)) if OWNERS.contains(&&*owner.to_lowercase()) => name,
        // `ViT-B/32`; anything else before a slash is an owner or a folder, unless it is a name
        // itself followed by the tag of OpenAI's weights (`ViT-B-32/openai`).
        Some((_, rest)) if rest.starts_with(|first: char| first.is_ascii_digit()) => typed,
        Some((name, tag)) if tag.eq_ignore_ascii_case("openai") => name,
        Some(_) => return None,
        None => typed,
    };
    let name = normal(name);
    let alias = ALIASES.iter().find(|alias| {
        let repository = alias.repository.rsplit('/').next().unwrap_or_default();
        let own = [Some(alias.name), Some(repository), alias.file];
        let mut own = own.into_iter().flatten().map(normal);
        own.any(|own| own == name || own.strip_prefix("clip") == Some(&name))
    });
    let other = || OTHERS.into_iter().find(|(known, _)| *known == name);
    alias.map(|alias| alias.name).or_else(|| Some(other()?.1))
}

/// Letters and digits only, without words and tags that a spelling may include or omit.
fn normal(name: &str) -> String {
    let mut name = name.to_lowercase();
    for ending in [".safetensors", ".pth", ".pt", ".bin", ".ckpt"] {
        if let Some(stem) = name.strip_suffix(ending) {
            name.truncate(stem.len());
        }
    }
    name.retain(|letter| letter.is_ascii_alphanumeric());
    for tag in ["openai", "quickgelu", "px"] {
        if let Some(stem) = name.strip_suffix(tag) {
            name.truncate(stem.len());
        }
    }
    for (long, short) in [
        ("basepatch", "b"),
        ("largepatch", "l"),
        ("longclipvit", "longclip"),
        ("longclipb16", "longclipb"),
        ("longclipl14", "longclipl"),
    ] {
        name = name.replace(long, short);
    }
    name
}

/// A hint at the model behind the name of a missing file.
pub(super) fn hint(file: &str) -> Option<String> {
    let is_file = choice::is_weights_name(file);
    let name = is_file.then(|| name_here(file)).flatten()?;
    Some(format!(" (did you mean {name}?)"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_of_a_known_model_finds_it() {
        let cases: [(&str, &[&str]); 9] = [
            (
                "clip-vit-b-32",
                &[
                    "ViT-B/32",
                    "ViT-B-32",
                    "vit_b_32",
                    "vit-b/32",
                    "ViT-B-32.pt",
                    "ViT-B-32-quickgelu",
                    "openai/ViT-B-32",
                    "openai/ViT-B/32",
                    "ViT-B-32/openai",
                    "ViT-B-32::openai",
                    "clip-vit-base-patch32",
                    "CLIP-ViT-B/32",
                    "CLIP-VIT-B-32",
                    "OpenAI/clip-vit-base-patch32",
                ],
            ),
            (
                "clip-vit-b-16",
                &["ViT-B/16", "ViT-B-16-quickgelu", "clip-vit-base-patch16"],
            ),
            ("clip-vit-l-14", &["ViT-L/14", "clip-vit-large-patch14"]),
            (
                "clip-vit-l-14-336",
                &[
                    "ViT-L/14@336px",
                    "ViT-L-14-336px.pt",
                    "ViT-L-14-336",
                    "ViT-L-14-336-quickgelu",
                    "clip-vit-large-patch14-336",
                ],
            ),
            (
                "longclip-b",
                &[
                    "LongCLIP-B",
                    "longclip-B.pt",
                    "longclip_b",
                    "beichenzhang/longclip-b",
                    "LongCLIP-ViT-B/16",
                    "Long-CLIP-B",
                ],
            ),
            ("longclip-b-32", &["LongCLIP-B-32", "longclip-B-32.pt"]),
            ("longclip-l", &["LongCLIP-L", "LongCLIP-ViT-L-14"]),
            (
                "longclip-l-336",
                &[
                    "longclip-L@336px.pt",
                    "LongCLIP-L-336px",
                    "LongCLIP-ViT-L/14@336px",
                ],
            ),
            (
                "timm/resnet50_clip.openai",
                &["RN50", "rn50.pt", "openai/RN50", "RN50-quickgelu"],
            ),
        ];
        for (expected, spellings) in cases {
            for typed in spellings {
                assert_eq!(name_here(typed), Some(expected), "{typed}");
            }
        }
        for (known, repository) in OTHERS {
            assert_eq!(name_here(known), Some(repository));
        }
    }

    #[test]
    fn tags_of_open_clip_are_the_weights_they_name() {
        for (typed, words) in [
            (
                "ViT-B-32/laion2b_s34b_b79k",
                "did you mean laion/CLIP-ViT-B-32-laion2B-s34B-b79K?",
            ),
            (
                "ViT-L-14-quickgelu/dfn2b",
                "did you mean apple/DFN2B-CLIP-ViT-L-14?",
            ),
            ("ViT-B-32/laion400m_e31", "\"laion400m_e31\" have no short"),
            ("RN50/yfcc15m", "\"yfcc15m\" have no short"),
        ] {
            assert!(tagged(typed).unwrap().contains(words), "{typed}");
            assert_eq!(name_here(typed), None, "{typed}");
        }
        for typed in [
            "ViT-B/32",
            "ViT-B-32/openai",
            "ViT-B-32/x.pt",
            "longclip-b/x",
            "a/b",
            "openai/ViT-B-32",
            "",
        ] {
            assert_eq!(tagged(typed), None, "{typed}");
        }
    }

    #[test]
    fn other_names_are_left_to_others() {
        for typed in [
            "a/b",
            "me/ViT-B-32",
            "clip/vit-b-32",
            "openai/clip-vit-base-patch32",
            "openai/clip-vit-base-patch32@main:pytorch_model.bin",
            "BeichenZhang/LongCLIP-B:longclip-B.pt",
            "laion/CLIP-ViT-B-32-laion2B-s34B-b79K",
            "./ViT-B-32.pt",
            "~/ViT-B-32.pt",
            "models/ViT-B-32.pt",
            "something-else",
            "RN51",
            "",
        ] {
            assert_eq!(name_here(typed), None, "{typed}");
        }
    }
}
