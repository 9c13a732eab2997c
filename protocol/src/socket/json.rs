//! One pass over a JSON text: is it valid, and where are its top-level elements?

use std::sync::Arc;

use crate::DecodeError;

/// A range of a text of less than 4 GiB.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) start: u32,
    pub(crate) end: u32,
}

impl Span {
    pub(crate) const fn new(start: usize, end: usize) -> Self {
        Self {
            start: narrow(start),
            end: narrow(end),
        }
    }

    pub(crate) const fn len(self) -> usize {
        self.end.saturating_sub(self.start) as usize
    }

    pub(crate) fn of(self, text: &[u8]) -> &[u8] {
        text.get(self.start as usize..self.end as usize)
            .unwrap_or_default()
    }
}

/// The elements of an array, or the one value that is no array; few of them without allocation.
#[derive(Clone, Debug, Default)]
pub(crate) struct Elements {
    first: [Span; INLINE],
    length: u32,
    /// The elements behind `first`; only unique while they are collected.
    more: Option<Arc<Vec<Span>>>,
}

impl Elements {
    pub(crate) fn one(span: Span) -> Self {
        let mut elements = Self::default();
        elements.push(span);
        elements
    }

    pub(crate) fn push(&mut self, span: Span) {
        match self.first.get_mut(self.length as usize) {
            Some(slot) => *slot = span,
            None => Arc::make_mut(self.more.get_or_insert_default()).push(span),
        }
        self.length += 1;
    }

    pub(crate) const fn len(&self) -> usize {
        self.length as usize
    }

    pub(crate) fn get(&self, i: usize) -> Option<Span> {
        if i >= self.len() {
            return None;
        }
        match self.first.get(i) {
            Some(span) => Some(*span),
            None => self.more.as_ref()?.get(i - INLINE).copied(),
        }
    }
}

/// Checks that `text[start..]` is one JSON text, nested at most `max_depth` deep (at most 128), and
/// adds its elements to `elements`.
///
/// `true`: it has `\u` escapes that are half a surrogate pair; [`repair`] replaces them. There is no
/// recursion: the open brackets are the bits of one number. The text is shorter than 4 GiB.
pub(crate) fn scan(
    text: &[u8],
    start: usize,
    max_depth: usize,
    elements: &mut Elements,
) -> Result<bool, DecodeError> {
    let mut scanner = Scanner {
        text,
        at: start,
        has_lone_surrogate: false,
    };
    scanner.run(max_depth.min(MAX_DEPTH), elements)?;
    Ok(scanner.has_lone_surrogate)
}

/// Replaces every lone surrogate escape by `\ufffd`, which has the same length.
pub(crate) fn repair(text: &mut [u8]) {
    let mut at = 0;
    while let Some(&byte) = text.get(at) {
        if byte != b'\\' {
            at += 1;
            continue;
        }
        match escape(text, at) {
            Some(Escape::Lone) => {
                if let Some(digits) = text.get_mut(at + 2..at + LONE) {
                    digits.copy_from_slice(b"fffd");
                }
                at += LONE;
            }
            Some(Escape::Valid(length)) => at += length,
            None => at += 1,
        }
    }
}

struct Scanner<'a> {
    text: &'a [u8],
    at: usize,
    has_lone_surrogate: bool,
}

impl Scanner<'_> {
    fn run(&mut self, max_depth: usize, elements: &mut Elements) -> Result<(), DecodeError> {
        // One bit for each open bracket, the innermost lowest: 1 is an object.
        let mut open: u128 = 0;
        let mut depth = 0;
        // The depth at which a value is a top-level element: 1 once the text is known as an array.
        let mut top = 0;
        let mut element = 0;
        'value: loop {
            let byte = self.next_token()?;
            if depth == top {
                element = self.at;
            }
            match byte {
                b'"' => self.string()?,
                b'{' | b'[' => {
                    if depth == max_depth {
                        return Err(DecodeError::TooDeep);
                    }
                    if depth == 0 && byte == b'[' {
                        top = 1;
                    }
                    self.at += 1;
                    let is_object = byte == b'{';
                    if self.next_token()? == closing(is_object) {
                        self.at += 1;
                    } else {
                        depth += 1;
                        open = open << 1 | u128::from(is_object);
                        if is_object {
                            self.key()?;
                        }
                        continue 'value;
                    }
                }
                b'-' | b'0'..=b'9' => self.number()?,
                b't' => self.literal(b"true")?,
                b'f' => self.literal(b"false")?,
                b'n' => self.literal(b"null")?,
                _ => return Err(DecodeError::InvalidJson),
            }
            // A value has ended, and maybe the containers around it.
            loop {
                if depth == top {
                    elements.push(Span::new(element, self.at));
                }
                if depth == 0 {
                    self.skip_whitespace();
                    return match self.peek() {
                        None => Ok(()),
                        Some(_) => Err(DecodeError::InvalidJson),
                    };
                }
                let is_object = open & 1 == 1;
                let byte = self.next_token()?;
                self.at += 1;
                if byte == b',' {
                    if is_object {
                        self.next_token()?;
                        self.key()?;
                    }
                    continue 'value;
                } else if byte == closing(is_object) {
                    depth -= 1;
                    open >>= 1;
                } else {
                    return Err(DecodeError::InvalidJson);
                }
            }
        }
    }

    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn skip_whitespace(&mut self) {
        while let Some(byte @ ..=b' ') = self.peek() {
            if !matches!(byte, b' ' | b'\t' | b'\n' | b'\r') {
                return;
            }
            self.at += 1;
        }
    }

    /// The next byte that is no whitespace; it is not consumed.
    fn next_token(&mut self) -> Result<u8, DecodeError> {
        self.skip_whitespace();
        self.peek().ok_or(DecodeError::InvalidJson)
    }

    /// A key and its colon.
    fn key(&mut self) -> Result<(), DecodeError> {
        if self.peek() != Some(b'"') {
            return Err(DecodeError::InvalidJson);
        }
        self.string()?;
        if self.next_token()? != b':' {
            return Err(DecodeError::InvalidJson);
        }
        self.at += 1;
        Ok(())
    }

    #[inline]
    fn string(&mut self) -> Result<(), DecodeError> {
        self.at += 1;
        loop {
            match self.next_special() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(());
                }
                Some(b'\\') => match escape(self.text, self.at) {
                    Some(Escape::Valid(length)) => self.at += length,
                    Some(Escape::Lone) => {
                        self.has_lone_surrogate = true;
                        self.at += LONE;
                    }
                    None => return Err(DecodeError::InvalidJson),
                },
                Some(_) | None => return Err(DecodeError::InvalidJson),
            }
        }
    }

    /// The next quote, backslash or control character inside a string; it is not consumed.
    #[inline]
    fn next_special(&mut self) -> Option<u8> {
        let mut rest = self.text.get(self.at..)?;
        // Vectors at a time as long as nothing is in them, then eight bytes.
        while let Some((chunk, behind)) = rest.split_first_chunk::<32>() {
            let is_special = |b: u8| (b == b'"') | (b == b'\\') | (b < 0x20);
            if chunk.iter().fold(false, |any, &b| any | is_special(b)) {
                break;
            }
            rest = behind;
        }
        while let Some((chunk, behind)) = rest.split_first_chunk::<8>() {
            let word = u64::from_le_bytes(*chunk);
            let special = has_zero(word ^ (EACH * u64::from(b'"')))
                | has_zero(word ^ (EACH * u64::from(b'\\')))
                // Control characters.
                | (word.wrapping_sub(EACH * 0x20) & !word & (EACH * 0x80));
            if special != 0 {
                let bits = special.trailing_zeros() & !7;
                self.at = self.text.len() - rest.len() + (bits / 8) as usize;
                return Some((word >> bits) as u8);
            }
            rest = behind;
        }
        let length = rest
            .iter()
            .position(|&b| matches!(b, b'"' | b'\\' | ..=0x1f))?;
        self.at = self.text.len() - rest.len() + length;
        rest.get(length).copied()
    }

    fn number(&mut self) -> Result<(), DecodeError> {
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        if self.peek() == Some(b'0') {
            self.at += 1;
        } else {
            self.digits()?;
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if let Some(b'e' | b'E') = self.peek() {
            self.at += 1;
            if let Some(b'+' | b'-') = self.peek() {
                self.at += 1;
            }
            self.digits()?;
        }
        Ok(())
    }

    /// One digit or more.
    fn digits(&mut self) -> Result<(), DecodeError> {
        let start = self.at;
        while let Some(b'0'..=b'9') = self.peek() {
            self.at += 1;
        }
        if self.at == start {
            Err(DecodeError::InvalidJson)
        } else {
            Ok(())
        }
    }

    fn literal(&mut self, word: &[u8]) -> Result<(), DecodeError> {
        if self
            .text
            .get(self.at..)
            .is_some_and(|rest| rest.starts_with(word))
        {
            self.at += word.len();
            Ok(())
        } else {
            Err(DecodeError::InvalidJson)
        }
    }
}

enum Escape {
    /// An escape, or the two of a surrogate pair, of this length.
    Valid(usize),
    /// Half a surrogate pair, of length `LONE`.
    Lone,
}

/// The escape that the backslash at `at` begins, if it is one.
fn escape(text: &[u8], at: usize) -> Option<Escape> {
    match text.get(at + 1)? {
        b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => Some(Escape::Valid(2)),
        b'u' => Some(match code_unit(text, at)? {
            0xd800..=0xdbff => match code_unit(text, at + LONE) {
                Some(0xdc00..=0xdfff) => Escape::Valid(2 * LONE),
                Some(_) | None => Escape::Lone,
            },
            0xdc00..=0xdfff => Escape::Lone,
            0x0000..=0xd7ff | 0xe000..=0xffff => Escape::Valid(LONE),
        }),
        _ => None,
    }
}

/// The value of `\uXXXX` at `at`.
fn code_unit(text: &[u8], at: usize) -> Option<u16> {
    let digits = text.get(at..at + LONE)?.strip_prefix(b"\\u")?;
    digits.iter().try_fold(0, |unit: u16, &digit| {
        let digit = char::from(digit).to_digit(16)?;
        Some(unit << 4 | u16::try_from(digit).ok()?)
    })
}

const fn closing(is_object: bool) -> u8 {
    if is_object { b'}' } else { b']' }
}

/// The lowest bit set marks a zero byte, if there is one; higher ones may be wrong.
const fn has_zero(word: u64) -> u64 {
    word.wrapping_sub(EACH) & !word & (EACH * 0x80)
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "the text is shorter than 4 GiB"
)]
const fn narrow(at: usize) -> u32 {
    at as u32
}

/// Times a byte: that byte eight times.
const EACH: u64 = 0x0101_0101_0101_0101;
/// How many elements need no allocation.
const INLINE: usize = 4;
/// The length of `\ud800`.
const LONE: usize = 6;
/// The bits that hold open brackets.
const MAX_DEPTH: usize = 128;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde::de::IgnoredAny;
    use serde_json::{Value, value::RawValue};

    use super::{DecodeError, Elements, repair, scan};

    fn elements(text: &str) -> Result<Vec<&str>, DecodeError> {
        let mut elements = Elements::default();
        scan(text.as_bytes(), 0, 128, &mut elements)?;
        let of = |i| std::str::from_utf8(elements.get(i).unwrap().of(text.as_bytes())).unwrap();
        assert_eq!(elements.get(elements.len()), None);
        Ok((0..elements.len()).map(of).collect())
    }

    #[test]
    fn top_level_elements_are_found_without_the_space_around_them() {
        assert_eq!(elements("[]"), Ok(vec![]));
        assert_eq!(elements(" [ \t\r\n] "), Ok(vec![]));
        assert_eq!(elements("[1]"), Ok(vec!["1"]));
        assert_eq!(
            elements(r#"[ "a" , -0.5e+3,null ]"#),
            Ok(vec![r#""a""#, "-0.5e+3", "null"])
        );
        assert_eq!(
            elements(r#"[[],{},[[1],2],{"a":[3,{}],"b":"]"},true,false]"#),
            Ok(vec![
                "[]",
                "{}",
                "[[1],2]",
                r#"{"a":[3,{}],"b":"]"}"#,
                "true",
                "false"
            ])
        );
        assert_eq!(elements(r#" {"a":[1,2]} "#), Ok(vec![r#"{"a":[1,2]}"#]));
        assert_eq!(elements(" 12 "), Ok(vec!["12"]));
    }

    #[test]
    fn more_elements_than_fit_inline_are_found() {
        for count in 0..20 {
            let texts: Vec<_> = (0..count).map(|i| i.to_string()).collect();
            assert_eq!(elements(&format!("[{}]", texts.join(","))).unwrap(), texts);
        }
    }

    #[test]
    fn what_is_no_json_is_refused() {
        for text in [
            "",
            " ",
            "[",
            "]",
            "{",
            "}",
            "[1",
            "[1,",
            "[1,]",
            "[,1]",
            "[1 2]",
            "[1]]",
            "[1}",
            "{]",
            "{\"a\"}",
            "{\"a\":}",
            "{\"a\":1,}",
            "{a:1}",
            "{1:1}",
            "{\"a\" 1}",
            "{\"a\"::1}",
            "\"",
            "\"a",
            "\"\\\"",
            "\"\\x\"",
            "\"\\u12\"",
            "\"\\u12g4\"",
            "\"\\u+123\"",
            "\"\n\"",
            "\"\u{0}\"",
            "\"12345678\u{1f}\"",
            "01",
            "-",
            "+1",
            "1.",
            ".5",
            "1e",
            "1e+",
            "1.e1",
            "0x1",
            "00",
            "-01",
            "tru",
            "True",
            "nulll",
            "NaN",
            "Infinity",
            "[1] x",
            "\u{feff}[]",
            "[1]\0",
            "'a'",
            "[\u{b}]",
        ] {
            assert_eq!(elements(text), Err(DecodeError::InvalidJson), "{text:?}");
        }
    }

    #[test]
    fn control_characters_are_found_at_every_place_of_a_word() {
        for at in 0..24 {
            for (special, allowed) in [('\u{1f}', false), ('\u{20}', true), ('\u{7f}', true)] {
                let mut inside = "é".repeat(2) + &"x".repeat(24);
                inside.insert(4 + at, special);
                assert_eq!(
                    elements(&format!("\"{inside}\"")).is_ok(),
                    allowed,
                    "{at} {special:?}"
                );
            }
        }
    }

    #[test]
    fn a16_depth_is_limited_without_recursion() {
        let nested =
            |open: &str, close: &str, depth| open.repeat(depth) + "1" + &close.repeat(depth);
        for (open, close) in [("[", "]"), ("{\"a\":", "}"), ("[{\"a\":", "}]")] {
            let each = if open.len() > 5 { 2 } else { 1 };
            assert!(elements(&nested(open, close, 128 / each)).is_ok());
            assert_eq!(
                elements(&nested(open, close, 128 / each + 1)),
                Err(DecodeError::TooDeep)
            );
            assert_eq!(elements(&open.repeat(100_000)), Err(DecodeError::TooDeep));
        }
        assert_eq!(elements(&"[[]]".repeat(2)), Err(DecodeError::InvalidJson));
    }

    #[test]
    fn a17_lone_surrogates_become_the_replacement_character() {
        for (text, expected) in [
            (r#""\ud800""#, r#""\ufffd""#),
            (r#""\uDFFF!""#, r#""\ufffd!""#),
            (r#""\ud83d\ude00""#, r#""\ud83d\ude00""#),
            (r#""\ud83d\ud83d\ude00""#, r#""\ufffd\ud83d\ude00""#),
            (r#""\ude00\ud83d""#, r#""\ufffd\ufffd""#),
            (r#""\\ud800""#, r#""\\ud800""#),
            (r#""\\\ud800\n""#, r#""\\\ufffd\n""#),
            (
                r#"{"\udbff":"\udc00\u0041"}"#,
                r#"{"\ufffd":"\ufffd\u0041"}"#,
            ),
            (r#""\ud800\t""#, r#""\ufffd\t""#),
        ] {
            let has_lone = scan(text.as_bytes(), 0, 128, &mut Elements::default()).unwrap();
            assert_eq!(has_lone, text != expected, "{text}");
            let mut repaired = text.as_bytes().to_vec();
            repair(&mut repaired);
            assert_eq!(String::from_utf8(repaired).unwrap(), expected);
        }
        assert_eq!(elements(r#""\ud800\u""#), Err(DecodeError::InvalidJson));
    }

    /// JSON, often damaged, and made of what hurts.
    fn text() -> impl Strategy<Value = String> {
        let token = prop::sample::select(vec![
            "[",
            "]",
            "{",
            "}",
            ",",
            ":",
            "\"",
            "\"a\"",
            "\"\\u0041\"",
            "\"\\ud800\"",
            "\\",
            "1",
            "0",
            "-",
            "1.5",
            "e3",
            "E-2",
            "true",
            "false",
            "null",
            " ",
            "\n",
            "é",
            "\u{1}",
            "\"\\n\"",
            "{\"a\":",
            "\"12345678",
            "\"b\":",
            "[1,",
            "\\ude00",
            "\u{1e}",
        ]);
        let soup = prop::collection::vec(token, 0..24).prop_map(|tokens| tokens.concat());
        let damaged = (
            value(),
            any::<prop::sample::Index>(),
            prop::option::of(any::<char>()),
        )
            .prop_map(|(value, at, replacement)| {
                let mut chars: Vec<_> = value.to_string().chars().collect();
                let at = at.index(chars.len());
                match replacement {
                    Some(c) => chars[at] = c,
                    None => drop(chars.remove(at)),
                }
                chars.into_iter().collect()
            });
        prop_oneof![soup, damaged, value().prop_map(|value| value.to_string())]
    }

    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            any::<String>().prop_map(Value::from),
        ];
        leaf.prop_recursive(5, 32, 6, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
                prop::collection::btree_map(any::<String>(), inner, 0..6)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        #[test]
        fn the_scan_accepts_what_serde_json_accepts(text in text()) {
            let ours = elements(&text);
            let theirs = serde_json::from_str::<IgnoredAny>(&text);
            prop_assert_eq!(ours.is_ok(), theirs.is_ok(), "{:?} {:?} {:?}", text, ours, theirs);
            if let Ok(raw) = serde_json::from_str::<Vec<&RawValue>>(&text) {
                let raw: Vec<_> = raw.iter().map(|raw| raw.get()).collect();
                prop_assert_eq!(ours.unwrap(), raw);
            }
        }

        #[test]
        fn a_repaired_text_is_json_without_lone_surrogates(text in text()) {
            if elements(&text).is_ok() {
                let mut repaired = text.into_bytes();
                repair(&mut repaired);
                let mut again = Elements::default();
                prop_assert_eq!(scan(&repaired, 0, 128, &mut again), Ok(false));
                let value = serde_json::from_slice::<Value>(&repaired);
                let out_of_range = |error: &serde_json::Error| error.to_string().contains("out of range");
                prop_assert!(value.as_ref().err().is_none_or(out_of_range), "{:?}", value);
            }
        }
    }
}
