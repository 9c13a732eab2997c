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
fn top_level_elements_are_found_without_surrounding_space() {
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
fn invalid_json_is_refused() {
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
fn control_characters_are_found_at_every_position_of_a_word() {
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
    let nested = |open: &str, close: &str, depth| open.repeat(depth) + "1" + &close.repeat(depth);
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

/// Generates JSON from critical tokens, often damaged.
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
        let actual = elements(&text);
        let expected = serde_json::from_str::<IgnoredAny>(&text);
        prop_assert_eq!(actual.is_ok(), expected.is_ok(), "{:?} {:?} {:?}", text, actual, expected);
        if let Ok(raw) = serde_json::from_str::<Vec<&RawValue>>(&text) {
            let raw: Vec<_> = raw.iter().map(|raw| raw.get()).collect();
            prop_assert_eq!(actual.unwrap(), raw);
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
