//! A page that states the default of a configuration key states the one of the program.

use std::collections::BTreeMap;

use crate::{read, site::pages};

/// The file with the defaults, which is generated from the program.
const REFERENCE: &str = "docs/reference/configuration.md";

#[test]
fn stated_defaults_are_those_of_the_program() {
    let defaults = defaults(&read(REFERENCE));
    assert!(defaults.len() > 100, "{}", defaults.len());
    let (mut compared, mut wrong) = (0, Vec::new());
    for page in pages() {
        if page == REFERENCE {
            continue;
        }
        for (key, stated) in stated(&read(&page)) {
            let Some(default) = defaults.get(&key) else {
                continue;
            };
            compared += 1;
            if amount(&stated) != amount(default) {
                wrong.push(format!("{page}: {key} is {default}, not {stated}"));
            }
        }
    }
    assert!(compared > 40, "{compared}");
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

/// Returns the defaults that are a number, a size or a duration, by their keys.
fn defaults(reference: &str) -> BTreeMap<String, String> {
    let sections = reference.split("\n### `").skip(1);
    let defaults = sections.filter_map(|section| {
        let (key, rest) = section.split_once('`')?;
        let (_, default) = rest.split_once("\n- Default: `")?;
        let default = default.split('`').next()?.trim_matches('"');
        amount(default).map(|_| (key.to_owned(), default.to_owned()))
    });
    defaults.collect()
}

/// Returns keys and the amounts that follow them, as in `a.key` 5 s and `a.key` (5 s).
fn stated(page: &str) -> Vec<(String, String)> {
    // The number of an item of a list follows nothing.
    let is_item = |line: &str| {
        line.split_once(". ")
            .is_some_and(|(n, _)| amount(n).is_some())
    };
    let lines = page.lines().map(str::trim);
    let lines: Vec<_> = lines
        .map(|line| if is_item(line) { "-" } else { line })
        .collect();
    let text = lines.join(" ");
    let parts: Vec<&str> = text.split('`').collect();
    let pairs = parts.windows(2).filter_map(|pair| {
        let key = pair[0];
        let is_key = key.contains('.') && key.chars().all(is_part_of_key);
        let value = pair[1].strip_prefix(' ')?;
        let value = value.strip_prefix('(').unwrap_or(value);
        let mut words = value.split([' ', ')']);
        // A colon explains the value, which need not be the default.
        let number = words.next()?.trim_end_matches([',', '.', ';']);
        let unit = words.next().unwrap_or_default();
        let unit = unit.trim_end_matches([',', '.', ';', ':']);
        let with_unit = (!unit.is_empty()).then(|| format!("{number} {unit}"));
        let with_unit = with_unit.filter(|text| amount(text).is_some());
        let stated = with_unit.or_else(|| amount(number).map(|_| number.to_owned()))?;
        is_key.then(|| (key.to_owned(), stated))
    });
    pairs.collect()
}

fn is_part_of_key(letter: char) -> bool {
    letter.is_ascii_lowercase() || matches!(letter, '.' | '_')
}

/// Returns an amount as a number of milliseconds or of bytes, or as it is.
fn amount(text: &str) -> Option<u64> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != ',');
    let (number, unit) = text.split_at(end.unwrap_or(text.len()));
    let number: u64 = number.replace(',', "").parse().ok()?;
    let factor = match unit.trim() {
        "" | "ms" => 1,
        "s" => 1000,
        "m" | "min" => 60_000,
        "h" => 3_600_000,
        "d" | "day" | "days" => 86_400_000,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        "MB" => 1_000_000,
        _ => return None,
    };
    Some(number * factor)
}

#[test]
fn amounts_are_found_after_their_keys() {
    let page =
        "The `a.b_c` (1,000), `d.e` (25\ns), and `f.g` 5 min or `h.i` 7 of them; `j` 3, `k.l` x.";
    let expected = [
        ("a.b_c", "1,000"),
        ("d.e", "25 s"),
        ("f.g", "5 min"),
        ("h.i", "7"),
    ];
    let expected = expected.map(|(key, value)| (key.to_owned(), value.to_owned()));
    assert_eq!(stated(page), expected);
    assert_eq!(amount("5 min"), amount("5m"));
    assert_eq!(amount("1 MiB"), amount("1048576"));
    assert_ne!(amount("7 d"), amount("7 h"));
    assert_eq!(amount("soon"), None);
}
