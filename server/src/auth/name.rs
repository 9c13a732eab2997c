//! What a text may consist of that stands for somebody or something: ids, names, roles, titles.

/// Whether a text can be shown and logged as a name: not empty, not too long, with something to see,
/// and without what is not seen.
///
/// Names are compared by eye. Two that look the same and are not would let one user pass for another,
/// and marks of direction would change how the line around a name reads.
pub(crate) fn is_name(text: &str, max: usize) -> bool {
    text.chars().take(max + 1).count() <= max
        && !text.chars().all(char::is_whitespace)
        && !text.chars().any(is_hidden)
}

/// Whether a character has no place in a name: it controls something, or it is not seen.
pub(crate) fn is_hidden(c: char) -> bool {
    c.is_control() || is_invisible(c)
}

/// Whether a character is not seen but changes how others are, or takes no room: marks of direction,
/// joiners, spaces without width, separators of lines and paragraphs, fillers, tags (Unicode's
/// `Default_Ignorable_Code_Point` without variation selectors, which emoji need).
pub(crate) fn is_invisible(c: char) -> bool {
    matches!(
        c,
        '\u{ad}'
            | '\u{34f}'
            | '\u{61c}'
            | '\u{115f}'..='\u{1160}'
            | '\u{17b4}'..='\u{17b5}'
            | '\u{180b}'..='\u{180f}'
            | '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{2800}'
            | '\u{3164}'
            | '\u{feff}'
            | '\u{ffa0}'
            | '\u{fff0}'..='\u{fffb}'
            | '\u{1bca0}'..='\u{1bca3}'
            | '\u{1d173}'..='\u{1d17a}'
            | '\u{e0000}'..='\u{e00ff}'
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_something_to_see_and_nothing_that_is_not_seen() {
        for name in [
            "A",
            "Zo\u{eb}",
            "O'Neill 2",
            "\u{2764}\u{fe0f}",
            "\u{5d0}\u{5d1}",
            "<b>",
        ] {
            assert!(is_name(name, 40), "{name:?}");
        }
        for name in [
            "",
            " ",
            "\u{a0}\u{3000}",
            "a\nb",
            "a\u{7f}",
            "Ann\u{200b}",
            "A\u{200d}nn",
            "\u{feff}Ann",
            "Ann\u{202e}nimda",
            "Ann\u{2066}x\u{2069}",
            "Ann\u{200f}",
            "Ann\u{2028}",
            "Ann\u{2029}",
            "\u{3164}",
            "A\u{ad}nn",
            "Ann\u{e0041}",
        ] {
            assert!(!is_name(name, 40), "{name:?}");
        }
        assert!(is_name(&"\u{e4}".repeat(40), 40) && !is_name(&"\u{e4}".repeat(41), 40));
    }
}
