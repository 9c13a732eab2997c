//! Recognizes a single emoji: a sequence as defined by Unicode (UTS #51, ED-9 to ED-16), displayed
//! as one character.
//!
//! Pictographs and characters reserved for them are accepted without a list of sequences that fonts
//! support. Therefore emoji that are newer than this server are accepted as well.

use crate::service::rules::content::character_class::class;

/// Returns whether a text is one emoji of at most [`MAX_CHARS`] characters.
pub(in crate::service) fn is_emoji(text: &str) -> bool {
    if text.chars().nth(MAX_CHARS).is_some() {
        return false;
    }
    let chars: Vec<char> = text.chars().collect();
    match chars.as_slice() {
        [first, second] if is_regional(*first) && is_regional(*second) => true,
        ['0'..='9' | '#' | '*', KEYCAP] | ['0'..='9' | '#' | '*', EMOJI_STYLE, KEYCAP] => true,
        chars => chars.split(|c| *c == JOINER).all(is_element),
    }
}

/// Returns whether the characters between joiners are a pictograph with an optional style, skin
/// tone or tags.
fn is_element(chars: &[char]) -> bool {
    let Some((first, rest)) = chars.split_first() else {
        return false;
    };
    is_pictograph(*first)
        && match rest {
            [] | [EMOJI_STYLE] => true,
            [tone] if is_skin_tone(*tone) => true,
            [tags @ .., TAG_END] if *first == FLAG => {
                !tags.is_empty() && tags.iter().copied().all(is_tag)
            }
            _ => false,
        }
}

pub(super) fn is_regional(c: char) -> bool {
    matches!(c, '\u{1F1E6}'..='\u{1F1FF}')
}

pub(super) fn is_skin_tone(c: char) -> bool {
    matches!(c, '\u{1F3FB}'..='\u{1F3FF}')
}

/// Returns whether a character is a letter or digit in the tags of a subdivision flag.
pub(super) fn is_tag(c: char) -> bool {
    matches!(c, '\u{E0030}'..='\u{E0039}' | '\u{E0061}'..='\u{E007A}')
}

/// Returns whether a character has the property `Extended_Pictographic` of Unicode 15.1
/// (`emoji-data.txt`).
pub(super) fn is_pictograph(c: char) -> bool {
    matches!(c,
        '\u{A9}' | '\u{AE}' | '\u{203C}' | '\u{2049}' | '\u{2122}' | '\u{2139}'
        | '\u{2194}'..='\u{2199}' | '\u{21A9}'..='\u{21AA}' | '\u{231A}'..='\u{231B}' | '\u{2328}'
        | '\u{2388}' | '\u{23CF}' | '\u{23E9}'..='\u{23F3}' | '\u{23F8}'..='\u{23FA}' | '\u{24C2}'
        | '\u{25AA}'..='\u{25AB}' | '\u{25B6}' | '\u{25C0}' | '\u{25FB}'..='\u{25FE}'
        | '\u{2600}'..='\u{2605}' | '\u{2607}'..='\u{2612}' | '\u{2614}'..='\u{2685}'
        | '\u{2690}'..='\u{2705}' | '\u{2708}'..='\u{2712}' | '\u{2714}' | '\u{2716}' | '\u{271D}'
        | '\u{2721}' | '\u{2728}' | '\u{2733}'..='\u{2734}' | '\u{2744}' | '\u{2747}' | '\u{274C}'
        | '\u{274E}' | '\u{2753}'..='\u{2755}' | '\u{2757}' | '\u{2763}'..='\u{2767}'
        | '\u{2795}'..='\u{2797}' | '\u{27A1}' | '\u{27B0}' | '\u{27BF}' | '\u{2934}'..='\u{2935}'
        | '\u{2B05}'..='\u{2B07}' | '\u{2B1B}'..='\u{2B1C}' | '\u{2B50}' | '\u{2B55}' | '\u{3030}'
        | '\u{303D}' | '\u{3297}' | '\u{3299}' | '\u{1F000}'..='\u{1F0FF}' | '\u{1F10D}'..='\u{1F10F}'
        | '\u{1F12F}' | '\u{1F16C}'..='\u{1F171}' | '\u{1F17E}'..='\u{1F17F}' | '\u{1F18E}'
        | '\u{1F191}'..='\u{1F19A}' | '\u{1F1AD}'..='\u{1F1E5}' | '\u{1F201}'..='\u{1F20F}' | '\u{1F21A}'
        | '\u{1F22F}' | '\u{1F232}'..='\u{1F23A}' | '\u{1F23C}'..='\u{1F23F}'
        | '\u{1F249}'..='\u{1F3FA}' | '\u{1F400}'..='\u{1F53D}' | '\u{1F546}'..='\u{1F64F}'
        | '\u{1F680}'..='\u{1F6FF}' | '\u{1F774}'..='\u{1F77F}' | '\u{1F7D5}'..='\u{1F7FF}'
        | '\u{1F80C}'..='\u{1F80F}' | '\u{1F848}'..='\u{1F84F}' | '\u{1F85A}'..='\u{1F85F}'
        | '\u{1F888}'..='\u{1F88F}' | '\u{1F8AE}'..='\u{1F8FF}' | '\u{1F90C}'..='\u{1F93A}'
        | '\u{1F93C}'..='\u{1F945}' | '\u{1F947}'..='\u{1FAFF}' | '\u{1FC00}'..='\u{1FFFD}')
}

/// Returns a regular expression for the texts that [`is_emoji`] accepts, without the length.
pub(in crate::service) fn pattern() -> String {
    let (regional, tone, tag) = (class(&is_regional), class(&is_skin_tone), class(&is_tag));
    let but_flag = class(&|c: char| is_pictograph(c) && c != FLAG);
    let element =
        format!(r"(?:[{but_flag}][\ufe0f{tone}]?|{FLAG}(?:[\ufe0f{tone}]|[{tag}]+{TAG_END})?)");
    format!(r"^(?:[{regional}]{{2}}|[0-9#*]\ufe0f?\u20e3|{element}(?:\u200d{element})*)$")
}

/// Maximum characters of an emoji, which are at most 64 bytes. The longest emoji that Unicode
/// lists, a kiss of two people with skin tones, has 10.
pub(in crate::service) const MAX_CHARS: usize = 16;
const JOINER: char = '\u{200D}';
const EMOJI_STYLE: char = '\u{FE0F}';
const KEYCAP: char = '\u{20E3}';
const FLAG: char = '\u{1F3F4}';
const TAG_END: char = '\u{E007F}';

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn emoji_is_exactly_one_unicode_emoji_sequence() {
        for emoji in [
            "\u{1F44D}",
            "\u{1F44D}\u{1F3FD}",
            "\u{2764}",
            "\u{2764}\u{FE0F}",
            "\u{1F1E9}\u{1F1EA}",
            "1\u{FE0F}\u{20E3}",
            "#\u{20E3}",
            "\u{1F468}\u{200D}\u{1F469}\u{200D}\u{1F467}\u{200D}\u{1F466}",
            "\u{1F469}\u{1F3FB}\u{200D}\u{2764}\u{FE0F}\u{200D}\u{1F48B}\u{200D}\u{1F468}\u{1F3FF}",
            "\u{1F3F3}\u{FE0F}\u{200D}\u{26A7}\u{FE0F}",
            "\u{1F3F4}\u{E0067}\u{E0062}\u{E0065}\u{E006E}\u{E0067}\u{E007F}",
            "\u{1FAE8}",
        ] {
            assert!(is_emoji(emoji), "{emoji}");
        }
        let long = "\u{1F468}\u{200D}".repeat(9) + "\u{1F468}";
        for other in [
            "",
            " ",
            "a",
            "1",
            "#",
            "\u{FE0F}",
            "\u{200D}",
            "\u{1F3FD}",
            "\u{1F1E9}",
            "\u{1F44D}\u{1F44D}",
            "\u{1F44D} ",
            "\u{1F44D}a",
            "\u{1F44D}\u{FE0E}",
            "\u{1F44D}\u{200D}",
            "\u{200D}\u{1F44D}",
            "\u{1F44D}\u{200D}\u{200D}\u{1F44D}",
            "\u{1F44D}\u{1F3FD}\u{1F3FD}",
            "\u{1F44D}\u{301}",
            "\u{1F1E9}\u{1F1EA}\u{1F1E9}\u{1F1EA}",
            "\u{1F3F4}\u{E007F}",
            "\u{1F44D}\u{E0067}\u{E007F}",
            "\u{202E}\u{1F44D}",
            ":+1:",
            &long,
        ] {
            assert!(!is_emoji(other), "{other:?}");
        }
    }
}
