//! CLIP's tokenizer as the `tokenizers` crate does it, built from the same merges.

use std::path::Path;

use tokenizers::models::bpe::{BPE, Merges, Vocab};
use tokenizers::normalizers::replace::ReplacePattern;
use tokenizers::normalizers::{Lowercase, NFC, Replace, Sequence as Normalizers};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::sequence::Sequence as PreTokenizers;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::{SplitDelimiterBehavior, Tokenizer};

const WORD: &str = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+";

/// The printable stand-ins of the 256 bytes, in the order of their ids.
fn byte_symbols() -> Vec<String> {
    let printable = (0x21..=0x7e).chain(0xa1..=0xac).chain(0xae..=0xff);
    let stand_ins = 256..256 + 68;
    let symbols = printable
        .chain(stand_ins)
        .map(|c| char::from_u32(c).unwrap().to_string());
    symbols.collect()
}

/// The pieces by id, and the merges in order.
fn pieces_and_merges() -> (Vec<String>, Merges) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/tokenizer/merges.bin");
    let mut pieces = byte_symbols();
    pieces.extend(byte_symbols().iter().map(|symbol| format!("{symbol}</w>")));
    let mut merges = Merges::new();
    for pair in std::fs::read(path).unwrap().chunks_exact(4) {
        let part = |at| pieces[usize::from(u16::from_le_bytes([pair[at], pair[at + 1]]))].clone();
        let (left, right) = (part(0), part(2));
        pieces.push(format!("{left}{right}"));
        merges.push((left, right));
    }
    (pieces, merges)
}

/// The tokenizer, without special tokens.
pub(crate) fn tokenizer() -> Tokenizer {
    let (pieces, merges) = pieces_and_merges();
    let mut vocab: Vocab = pieces.into_iter().zip(0..).collect();
    vocab.insert("<|startoftext|>".to_owned(), 49406);
    vocab.insert("<|endoftext|>".to_owned(), 49407);
    let model = BPE::builder()
        .vocab_and_merges(vocab, merges)
        .end_of_word_suffix("</w>".to_owned())
        .unk_token("<|endoftext|>".to_owned());
    let mut tokenizer = Tokenizer::new(model.build().unwrap());
    let blanks = Replace::new(ReplacePattern::Regex(r"\s+".to_owned()), " ").unwrap();
    let normalizers = Normalizers::new(vec![NFC.into(), blanks.into(), Lowercase.into()]);
    tokenizer.with_normalizer(Some(normalizers)).unwrap();
    let pattern = SplitPattern::Regex(WORD.to_owned());
    let words = Split::new(pattern, SplitDelimiterBehavior::Removed, true).unwrap();
    let bytes = ByteLevel::new(false, true, true);
    let pre_tokenizers = PreTokenizers::new(vec![words.into(), bytes.into()]);
    tokenizer.with_pre_tokenizer(Some(pre_tokenizers));
    tokenizer
}
