//! Names that models have elsewhere: openai/CLIP's, open_clip's, those of published files and
//! repositories, in any spelling.

use super::alias::ALIASES;
use super::choice;

/// Owners of the repositories that short names stand for.
const OWNERS: [&str; 2] = ["openai", "beichenzhang"];

/// Architectures without a short name, as [`normal`] writes them, and a repository of each.
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

/// The name here of the model that `typed` is the name of elsewhere. Names that are right as they are
/// (`OWNER/REPO` of somebody else, a short name) are nobody's elsewhere.
pub(super) fn name_here(typed: &str) -> Option<&'static str> {
    let id = typed.split(['@', ':']).next().unwrap_or(typed);
    if ALIASES.iter().any(|alias| alias.repository == id) {
        return None;
    }
    let name = match typed.split_once('/') {
        Some((owner, name)) if OWNERS.contains(&&*owner.to_lowercase()) => name,
        // `ViT-B/32`; anything else before a slash is an owner or a folder, unless it is a name itself
        // with the tag of some weights behind it (`ViT-B-32/laion2b_s34b_b79k`).
        Some((_, rest)) if rest.starts_with(|first: char| first.is_ascii_digit()) => typed,
        Some((name, _)) if !name.starts_with(['.', '~']) => name,
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

/// Letters and digits alone, with words and tags that all spellings may have or leave out gone.
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

/// A hint at the model of a file that is named but not there.
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
                    "ViT-B-32/laion2b_s34b_b79k",
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
