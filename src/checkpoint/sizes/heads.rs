//! Attention head counts: the one dimension that no tensor shape shows. Taken from the user, a
//! configuration, the code that a file is written for, or the published models of the same width;
//! otherwise the user is asked.

use anyhow::{Result, bail, ensure};

/// The heads of both towers, as far as the user specifies them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Heads {
    /// Of the image tower.
    pub image: Option<usize>,
    /// Of the text tower.
    pub text: Option<usize>,
}

impl Heads {
    /// Placeholder for readers that need only the other dimensions: one head divides every width.
    pub(crate) const NOT_NEEDED: Self = Self {
        image: Some(1),
        text: Some(1),
    };

    /// Whether the user specifies any.
    #[must_use]
    pub(crate) fn are_stated(self) -> bool {
        self.image.is_some() || self.text.is_some()
    }
}

/// The code that a file of weights is written for, as far as it fixes the head count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    /// openai/CLIP's archives: 64 features per head, whatever the width.
    OpenAi,
    /// Long-CLIP's, which starts from OpenAI's models; no other widths are published.
    LongClip,
    /// Any other.
    Any,
}

/// A tower's head count and where it comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Chosen {
    pub(super) heads: usize,
    /// The source, for `-v` and `inspect`.
    pub(super) source: &'static str,
    /// Whether the user should be warned.
    pub(super) doubt: Doubt,
}

/// How far to trust a head count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Doubt {
    /// Known.
    None,
    /// No source gives it; this is what most code assumes.
    Guess,
    /// A configuration says 64 features per head for a width at which all published models have 16
    /// heads: naive converters wrote this.
    Stale,
    /// Specified by the user; the configuration says this.
    Overrides(usize),
}

impl Chosen {
    /// The warning for the user, if any.
    pub(super) fn warning(self, tower: &str) -> Option<String> {
        let heads = self.heads;
        match self.doubt {
            Doubt::None => None,
            Doubt::Overrides(configured) => Some(format!(
                "the configuration gives the {tower} tower {configured} attention heads; --heads \
                 {heads} overrides it"
            )),
            Doubt::Guess => Some(format!(
                "the file does not say how many attention heads its {tower} tower has; assuming \
                 {heads} of 64 features (--heads IMAGE,TEXT if it has others)"
            )),
            Doubt::Stale => Some(format!(
                "the configuration says {heads} attention heads for the {tower} tower, and all published models \
                 of its width have {WIDE_HEADS}: if it was converted from a file without a configuration, \
                 convert that again, or pass --heads {WIDE_HEADS}"
            )),
        }
    }
}

/// A tower whose head count is needed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Question<'a> {
    /// `image` or `text`.
    pub(super) tower: &'a str,
    pub(super) width: usize,
    /// Specified by the user.
    pub(super) stated: Option<usize>,
    /// Given by a configuration.
    pub(super) configured: Option<usize>,
    pub(super) code: Code,
}

/// Features per head in all of OpenAI's models, and open_clip's default.
const USUAL_HEAD: usize = 64;

/// Image widths of published openai/CLIP and open_clip models, all with heads of 64 features.
const IMAGE_WIDTHS: [usize; 5] = [384, 512, 768, 896, 1024];
/// Image widths of open_clip's ViT-H, g, bigG and e, and the heads that all four have.
const WIDE_IMAGE_WIDTHS: [usize; 4] = [1280, 1408, 1664, 1792];
const WIDE_HEADS: usize = 16;
/// Text widths of the same models, all with heads of 64 features.
const TEXT_WIDTHS: [usize; 7] = [256, 384, 512, 640, 768, 1024, 1280];
/// The widest tower of OpenAI's and Long-CLIP's models.
const OPENAI_WIDEST: usize = 1024;

impl Question<'_> {
    /// Determines the head count of a tower.
    ///
    /// # Errors
    /// When no source gives it and the width is not a published one, or when it does not divide the
    /// width.
    pub(super) fn answer(self) -> Result<Chosen> {
        let chosen = self.choose()?;
        ensure!(
            chosen.heads > 0 && self.width.is_multiple_of(chosen.heads),
            "the {} tower has width {}, which is not divisible by {} attention heads",
            self.tower,
            self.width,
            chosen.heads
        );
        Ok(chosen)
    }

    fn choose(self) -> Result<Chosen> {
        let chosen = |heads, source| Chosen {
            heads,
            source,
            doubt: Doubt::None,
        };
        if let Some(heads) = self.stated {
            let mut chosen = chosen(heads, "--heads");
            if let Some(configured) = self.configured.filter(|configured| *configured != heads) {
                chosen.doubt = Doubt::Overrides(configured);
            }
            return Ok(chosen);
        }
        let is_image = self.tower == "image";
        let is_wide = is_image && WIDE_IMAGE_WIDTHS.contains(&self.width);
        let usual = self.width.is_multiple_of(USUAL_HEAD);
        let usual = usual.then_some(self.width / USUAL_HEAD);
        if let Some(heads) = self.configured {
            let mut chosen = chosen(heads, "the configuration");
            if is_wide && Some(heads) == usual && self.code == Code::Any {
                chosen.doubt = Doubt::Stale;
            }
            return Ok(chosen);
        }
        match (usual, self.code) {
            (Some(heads), Code::OpenAi) => return Ok(chosen(heads, "OpenAI's archives")),
            (Some(heads), Code::LongClip) if self.width <= OPENAI_WIDEST => {
                return Ok(chosen(heads, "Long-CLIP's code"));
            }
            (_, Code::LongClip) => return self.ask(),
            _ => {}
        }
        let published: &[usize] = match is_image {
            true => &IMAGE_WIDTHS,
            false => &TEXT_WIDTHS,
        };
        match usual {
            _ if is_wide => Ok(chosen(WIDE_HEADS, "published models of this width")),
            Some(heads) if published.contains(&self.width) => {
                Ok(chosen(heads, "published models of this width"))
            }
            Some(heads) if self.width <= OPENAI_WIDEST => Ok(Chosen {
                heads,
                source: "a guess: 64 features per head",
                doubt: Doubt::Guess,
            }),
            _ => self.ask(),
        }
    }

    fn ask(self) -> Result<Chosen> {
        let flag = match self.tower {
            "image" => "--heads IMAGE",
            _ => "--heads IMAGE,TEXT",
        };
        bail!(
            "the file does not say how many attention heads its {} tower has, and the width of {} does \
             not settle it; pass {flag}, or name the folder that has the model's configuration",
            self.tower,
            self.width
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BARE: Question<'_> = Question {
        tower: "image",
        width: 0,
        stated: None,
        configured: None,
        code: Code::Any,
    };

    #[test]
    fn published_widths_have_their_heads_and_others_are_guessed_or_asked_for() {
        let cases = [
            ("image", 384, Some((6, false))),
            ("image", 512, Some((8, false))),
            ("image", 768, Some((12, false))),
            ("image", 896, Some((14, false))),
            ("image", 1024, Some((16, false))),
            ("image", 1280, Some((16, false))),
            ("image", 1408, Some((16, false))),
            ("image", 1664, Some((16, false))),
            ("image", 1792, Some((16, false))),
            ("image", 128, Some((2, true))),
            ("image", 640, Some((10, true))),
            ("image", 1152, None),
            ("image", 1536, None),
            ("image", 2048, None),
            ("image", 96, None),
            ("text", 256, Some((4, false))),
            ("text", 640, Some((10, false))),
            ("text", 1024, Some((16, false))),
            ("text", 1280, Some((20, false))),
            ("text", 64, Some((1, true))),
            ("text", 1408, None),
            ("text", 80, None),
        ];
        for (tower, width, expected) in cases {
            let question = Question {
                tower,
                width,
                ..BARE
            };
            let found = question.answer();
            match expected {
                Some(expected) => {
                    let found = found.unwrap();
                    let is_guess = found.doubt == Doubt::Guess;
                    assert_eq!((found.heads, is_guess), expected, "{tower} {width}");
                    assert_eq!(found.warning(tower).is_some(), is_guess);
                }
                None => {
                    let error = found.unwrap_err().to_string();
                    assert!(error.contains("--heads IMAGE"), "{error}");
                    assert!(error.contains(&width.to_string()), "{error}");
                }
            }
        }
    }

    #[test]
    fn who_knows_better_wins() {
        let wide = Question {
            width: 1280,
            ..BARE
        };
        let cases = [
            (Some(10), Some(20), Code::Any, Some(10)),
            (None, Some(20), Code::Any, Some(20)),
            (None, None, Code::OpenAi, Some(20)),
            (None, None, Code::LongClip, None),
            (Some(16), None, Code::LongClip, Some(16)),
            (None, None, Code::Any, Some(16)),
            (Some(7), None, Code::Any, None),
            (Some(0), None, Code::Any, None),
        ];
        for (stated, configured, code, expected) in cases {
            let question = Question {
                stated,
                configured,
                code,
                ..wide
            };
            let found = question.answer().ok();
            let heads = found.map(|found| found.heads);
            assert_eq!(heads, expected, "{question:?}");
            let both = found.filter(|_| stated.is_some() && configured.is_some());
            if let Some(warning) = both.and_then(|found| found.warning("image")) {
                assert!(warning.contains("20 attention heads; --heads 10 overrides it"));
            }
            assert_eq!(
                both.is_some_and(|found| found.doubt != Doubt::None),
                both.is_some()
            );
        }
    }

    /// Versions that assumed 64 features per head wrote 20 when converting a bare ViT-H.
    #[test]
    fn a_stale_number_of_a_published_width_is_doubted() {
        for (width, configured, code, doubted) in [
            (1280, 20, Code::Any, true),
            (1664, 26, Code::Any, true),
            (1280, 16, Code::Any, false),
            (1280, 20, Code::OpenAi, false),
            (768, 12, Code::Any, false),
        ] {
            let question = Question {
                width,
                code,
                configured: Some(configured),
                ..BARE
            };
            let warning = question.answer().unwrap().warning("image");
            let says_how = warning.is_some_and(|warning| warning.contains("--heads 16"));
            assert_eq!(says_how, doubted, "{width} {configured}");
        }
    }
}
