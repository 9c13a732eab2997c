//! Sets of characters for the regular expressions of JSON schemas, from the predicates that
//! services use, so that schema and check cannot differ.

use std::fmt::Write as _;
use std::ops::RangeInclusive;

/// The ranges of characters in which the predicates match, in ascending order without overlap.
/// The other characters, over a million, are not checked: ideographs, most scripts, and unassigned
/// characters.
const AREAS: [RangeInclusive<char>; 6] = [
    '\0'..='\u{33ff}',
    '\u{fe00}'..='\u{ffff}',
    '\u{1bc00}'..='\u{1bcff}',
    '\u{1d100}'..='\u{1d1ff}',
    '\u{1f000}'..='\u{1ffff}',
    '\u{e0000}'..='\u{e00ff}',
];

/// Returns the characters that match a predicate, as the content of a bracket expression. The
/// predicate matches no character outside of [`AREAS`], which a test checks for each predicate.
pub(in crate::service) fn class(is: &dyn Fn(char) -> bool) -> String {
    let mut text = String::new();
    for area in AREAS {
        add_ranges(&mut text, area, is);
    }
    text
}

/// Adds the ranges of the characters that match.
fn add_ranges(text: &mut String, area: RangeInclusive<char>, is: &dyn Fn(char) -> bool) {
    let mut range: Option<(char, char)> = None;
    for c in area {
        range = match (is(c), range) {
            (true, Some((first, _))) => Some((first, c)),
            (true, None) => Some((c, c)),
            (false, ended) => {
                add(text, ended);
                None
            }
        };
    }
    add(text, range);
}

fn add(text: &mut String, range: Option<(char, char)>) {
    let Some((first, last)) = range else { return };
    escape(text, first);
    if last != first {
        text.push('-');
        escape(text, last);
    }
}

fn escape(text: &mut String, c: char) {
    match c {
        'a'..='z' | 'A'..='Z' | '0'..='9' => text.push(c),
        // Only characters with a special meaning are escaped; engines reject other escapes.
        '^' | '$' | '\\' | '.' | '*' | '+' | '?' | '(' | ')' | '[' | ']' | '{' | '}' | '|'
        | '/' | '-' => {
            text.extend(['\\', c]);
        }
        ' '..='~' => text.push(c),
        // No escape for characters beyond the basic plane works in all engines.
        '\u{10000}'.. => text.push(c),
        _ => {
            let _ = write!(text, "\\u{:04x}", u32::from(c));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::is_hidden;
    use crate::service::rules::bounds::is_control_in_text;
    use crate::service::rules::content::{emoji, url};

    #[test]
    fn class_of_each_predicate_has_all_its_characters() {
        let predicates: [fn(char) -> bool; 8] = [
            char::is_whitespace,
            is_hidden,
            is_control_in_text,
            url::is_forbidden,
            emoji::is_pictograph,
            emoji::is_regional,
            emoji::is_skin_tone,
            emoji::is_tag,
        ];
        for (n, is) in predicates.iter().enumerate() {
            let mut all = String::new();
            add_ranges(&mut all, '\0'..=char::MAX, is);
            assert!(!all.is_empty());
            assert_eq!(class(is), all, "predicate {n}");
        }
    }
}
