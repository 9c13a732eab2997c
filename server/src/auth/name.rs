//! Checks of texts that serve as ids, names, roles and titles.

/// Returns whether a text can be displayed and logged as a name. It must have 1 to `max`
/// characters, at least one of them visible, and no hidden ones.
///
/// People compare names by eye. Two names that look the same could make one user pass for another,
/// and direction marks could change how the surrounding line is displayed.
pub(crate) fn is_name(text: &str, max: usize) -> bool {
    text.chars().take(max + 1).count() <= max
        && !text.chars().all(char::is_whitespace)
        && !text.chars().any(is_hidden)
}

/// Returns whether a character is forbidden in names because it is a control character or
/// invisible.
pub(crate) fn is_hidden(c: char) -> bool {
    c.is_control() || is_invisible(c)
}

/// Returns whether a character is invisible or has no width.
///
/// These are direction marks, joiners, zero-width spaces, line and paragraph separators, fillers
/// and tags. They correspond to Unicode's `Default_Ignorable_Code_Point` without variation
/// selectors, which emoji need.
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
    fn name_has_visible_characters_and_no_invisible_characters() {
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
