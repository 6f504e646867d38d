//! The single-byte encodings as which UTF-8 is most often misread.
//!
//! The tables are those of the Unicode consortium's mapping files. Bytes that a Windows encoding
//! leaves undefined map to the control character of the same number, as in web browsers; there,
//! byte 0x1A maps to U+FFFD, which is what a stricter program made of such a byte.

use std::collections::HashMap;
use std::sync::LazyLock;

/// An encoding of one byte per character, ASCII in its lower half.
pub(super) struct Codec {
    /// Whether every byte is defined, and 0x1A maps to U+FFFD.
    pub(super) is_sloppy: bool,
    /// Whether a space may stand for the byte 0xA0 that was shown as one. In Mac OS Roman such
    /// sequences are a dash and a space.
    pub(super) restores_blanks: bool,
    bytes: HashMap<char, u8>,
}

/// The byte that maps to U+FFFD in a sloppy encoding.
const SUBSTITUTE: u8 = 0x1a;

/// The encodings in the order in which they are tried.
pub(super) static CODECS: LazyLock<Vec<Codec>> = LazyLock::new(|| {
    let latin_1: String = ('\u{80}'..='\u{ff}').collect();
    let strict = [ISO_8859_2, MACROMAN, CP437];
    let mut codecs = vec![Codec::new(&latin_1, false)];
    codecs.extend(SLOPPY.map(|upper| Codec::new(upper, true)));
    codecs.extend(strict.map(|upper| Codec {
        restores_blanks: upper != MACROMAN,
        ..Codec::new(upper, false)
    }));
    codecs
});

impl Codec {
    fn new(upper: &str, is_sloppy: bool) -> Self {
        let mut bytes: HashMap<char, u8> = (0..0x80).map(|byte| (char::from(byte), byte)).collect();
        bytes.extend(upper.chars().zip(0x80..=0xff));
        if is_sloppy {
            bytes.remove(&char::from(SUBSTITUTE));
            bytes.insert(char::REPLACEMENT_CHARACTER, SUBSTITUTE);
        }
        Self {
            is_sloppy,
            restores_blanks: true,
            bytes,
        }
    }

    /// The text in this encoding, if it has every character.
    pub(super) fn encode(&self, text: &str) -> Option<Vec<u8>> {
        text.chars().map(|c| self.bytes.get(&c).copied()).collect()
    }
}

/// The character that Windows shows for a C1 control; other characters unchanged.
pub(super) fn without_c1(c: char) -> char {
    let at = u32::from(c).checked_sub(0x80).filter(|&at| at < 0x20);
    at.and_then(|at| WINDOWS_1252.chars().nth(at as usize))
        .unwrap_or(c)
}

const SLOPPY: [&str; 6] = [
    WINDOWS_1252,
    WINDOWS_1251,
    WINDOWS_1250,
    WINDOWS_1253,
    WINDOWS_1254,
    WINDOWS_1257,
];

/// Western European.
const WINDOWS_1252: &str = "\
    €\u{81}‚ƒ„…†‡ˆ‰Š‹Œ\u{8d}Ž\u{8f}\u{90}‘’“”•–—˜™š›œ\u{9d}žŸ\u{a0}¡¢£¤¥¦§¨©ª«¬\u{ad}®¯°±²³´µ¶·¸\
    ¹º»¼½¾¿ÀÁÂÃÄÅÆÇÈÉÊËÌÍÎÏÐÑÒÓÔÕÖ×ØÙÚÛÜÝÞßàáâãäåæçèéêëìíîïðñòóôõö÷øùúûüýþÿ";

/// Cyrillic.
const WINDOWS_1251: &str = "\
    ЂЃ‚ѓ„…†‡€‰Љ‹ЊЌЋЏђ‘’“”•–—\u{98}™љ›њќћџ\u{a0}ЎўЈ¤Ґ¦§Ё©Є«¬\u{ad}®Ї°±Ііґµ¶·ё№є»јЅѕїАБВГДЕЖЗИЙКЛМ\
    НОПРСТУФХЦЧШЩЪЫЬЭЮЯабвгдежзийклмнопрстуфхцчшщъыьэюя";

/// Central European.
const WINDOWS_1250: &str = "\
    €\u{81}‚\u{83}„…†‡\u{88}‰Š‹ŚŤŽŹ\u{90}‘’“”•–—\u{98}™š›śťžź\u{a0}ˇ˘Ł¤Ą¦§¨©Ş«¬\u{ad}®Ż°±˛ł´µ¶·¸\
    ąş»Ľ˝ľżŔÁÂĂÄĹĆÇČÉĘËĚÍÎĎĐŃŇÓÔŐÖ×ŘŮÚŰÜÝŢßŕáâăäĺćçčéęëěíîďđńňóôőö÷řůúűüýţ˙";

/// Greek.
const WINDOWS_1253: &str = "\
    €\u{81}‚ƒ„…†‡\u{88}‰\u{8a}‹\u{8c}\u{8d}\u{8e}\u{8f}\u{90}‘’“”•–—\u{98}™\u{9a}›\u{9c}\u{9d}\
    \u{9e}\u{9f}\u{a0}΅Ά£¤¥¦§¨©ª«¬\u{ad}®―°±²³΄µ¶·ΈΉΊ»Ό½ΎΏΐΑΒΓΔΕΖΗΘΙΚΛΜΝΞΟΠΡÒΣΤΥΦΧΨΩΪΫάέήίΰαβγδε\
    ζηθικλμνξοπρςστυφχψωϊϋόύώÿ";

/// Turkish.
const WINDOWS_1254: &str = "\
    €\u{81}‚ƒ„…†‡ˆ‰Š‹Œ\u{8d}\u{8e}\u{8f}\u{90}‘’“”•–—˜™š›œ\u{9d}\u{9e}Ÿ\u{a0}¡¢£¤¥¦§¨©ª«¬\u{ad}®\
    ¯°±²³´µ¶·¸¹º»¼½¾¿ÀÁÂÃÄÅÆÇÈÉÊËÌÍÎÏĞÑÒÓÔÕÖ×ØÙÚÛÜİŞßàáâãäåæçèéêëìíîïğñòóôõö÷øùúûüışÿ";

/// Baltic.
const WINDOWS_1257: &str = "\
    €\u{81}‚\u{83}„…†‡\u{88}‰\u{8a}‹\u{8c}¨ˇ¸\u{90}‘’“”•–—\u{98}™\u{9a}›\u{9c}¯˛\u{9f}\u{a0}¡¢£¤\
    ¥¦§Ø©Ŗ«¬\u{ad}®Æ°±²³´µ¶·ø¹ŗ»¼½¾æĄĮĀĆÄÅĘĒČÉŹĖĢĶĪĻŠŃŅÓŌÕÖ×ŲŁŚŪÜŻŽßąįāćäåęēčéźėģķīļšńņóōõö÷ųłśū\
    üżž˙";

/// Latin-2.
const ISO_8859_2: &str = "\
    \u{80}\u{81}\u{82}\u{83}\u{84}\u{85}\u{86}\u{87}\u{88}\u{89}\u{8a}\u{8b}\u{8c}\u{8d}\u{8e}\
    \u{8f}\u{90}\u{91}\u{92}\u{93}\u{94}\u{95}\u{96}\u{97}\u{98}\u{99}\u{9a}\u{9b}\u{9c}\u{9d}\
    \u{9e}\u{9f}\u{a0}Ą˘Ł¤ĽŚ§¨ŠŞŤŹ\u{ad}ŽŻ°ą˛ł´ľśˇ¸šşťź˝žżŔÁÂĂÄĹĆÇČÉĘËĚÍÎĎĐŃŇÓÔŐÖ×ŘŮÚŰÜÝŢßŕáâăäĺ\
    ćçčéęëěíîďđńňóôőö÷řůúűüýţ˙";

/// Mac OS Roman.
const MACROMAN: &str = "\
    ÄÅÇÉÑÖÜáàâäãåçéèêëíìîïñóòôöõúùûü†°¢£§•¶ß®©™´¨≠ÆØ∞±≤≥¥µ∂∑∏π∫ªºΩæø¿¡¬√ƒ≈∆«»…\u{a0}ÀÃÕŒœ–—“”‘’÷\
    ◊ÿŸ⁄€‹›ﬁﬂ‡·‚„‰ÂÊÁËÈÍÎÏÌÓÔ\u{f8ff}ÒÚÛÙıˆ˜¯˘˙˚¸˝˛ˇ";

/// IBM PC code page 437.
const CP437: &str = "\
    ÇüéâäàåçêëèïîìÄÅÉæÆôöòûùÿÖÜ¢£¥₧ƒáíóúñÑªº¿⌐¬½¼¡«»░▒▓│┤╡╢╖╕╣║╗╝╜╛┐└┴┬├─┼╞╟╚╔╩╦╠═╬╧╨╤╥╙╘╒╓╫╪┘┌█\
    ▄▌▐▀αßΓπΣσµτΦΘΩδ∞φε∩≡±≥≤⌠⌡÷≈°∙·√ⁿ²■\u{a0}";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_encoding_has_256_bytes() {
        for (at, codec) in CODECS.iter().enumerate() {
            assert_eq!(codec.bytes.len(), 256, "encoding {at}");
        }
        assert_eq!(CODECS.len(), 10);
    }

    #[test]
    fn characters_are_looked_up() {
        let [latin_1, windows_1252, windows_1251] = [0, 1, 2].map(|at| &CODECS[at]);
        assert_eq!(latin_1.encode("aé\u{1a}"), Some(vec![b'a', 0xe9, 0x1a]));
        assert_eq!(latin_1.encode("€"), None);
        assert_eq!(
            windows_1252.encode("€\u{81}\u{fffd}"),
            Some(vec![0x80, 0x81, 0x1a])
        );
        assert_eq!(windows_1252.encode("\u{1a}"), None);
        assert_eq!(windows_1251.encode("Пя"), Some(vec![0xcf, 0xff]));
        let cases = [
            ('\u{80}', '€'),
            ('\u{81}', '\u{81}'),
            ('\u{9f}', 'Ÿ'),
            ('\u{a0}', '\u{a0}'),
            ('~', '~'),
        ];
        for (control, shown) in cases {
            assert_eq!(without_c1(control), shown);
        }
    }
}
