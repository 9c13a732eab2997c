//! Each long-lived map, queue and cache of the program is in the inventory of `/debug/inventory`,
//! or in `collections.txt` with the reason why it is not.

use std::collections::{BTreeMap, BTreeSet};

use crate::read;
use crate::tasks::sources;

/// Types of collections. An alias of such a type counts in its file.
const COLLECTIONS: [&str; 17] = [
    "BTreeMap<",
    "BTreeSet<",
    "BinaryHeap<",
    "ByHash<",
    "Debts<",
    "Expiring<",
    "HashMap<",
    "HashSet<",
    "IdMap<",
    "JoinSet<",
    "Mutex<Option<Vec<",
    "Mutex<Vec<",
    "RwLock<Vec<",
    "Sharded<",
    "Shards<",
    "VecDeque<",
    "mpsc::",
];

/// Parts that are not the running server.
const OTHERS: [&str; 5] = [
    "server/src/cli/",
    "server/src/config/",
    "src/client/",
    "src/socket/fuzzing/",
    "src/testing/",
];

/// Returns the text until the closing bracket of the bracket at its start, without both.
fn bracketed(text: &str) -> &str {
    let mut depth = 0;
    for (at, c) in text.char_indices() {
        match c {
            '{' | '(' | '[' => depth += 1,
            '}' | ')' | ']' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return &text[1..at];
        }
    }
    panic!("no end of {text}");
}

/// Splits fields at the commas that are in no bracket.
fn fields(body: &str) -> Vec<&str> {
    let (mut fields, mut depth, mut start, mut last) = (Vec::new(), 0, 0, ' ');
    for (at, c) in body.char_indices() {
        match c {
            '{' | '(' | '[' | '<' => depth += 1,
            '}' | ')' | ']' => depth -= 1,
            '>' if last != '-' => depth -= 1,
            ',' if depth == 0 => {
                fields.push(&body[start..at]);
                start = at + 1;
            }
            _ => {}
        }
        last = c;
    }
    fields.push(&body[start..]);
    fields
}

/// Returns a field or an item without its attributes and visibility.
fn bare(mut text: &str) -> &str {
    loop {
        text = text.trim();
        if let Some(rest) = text.strip_prefix('#') {
            text = &rest[bracketed(rest).len() + 2..];
        } else if let Some(rest) = text.strip_prefix("pub(") {
            text = rest.split_once(')').unwrap().1;
        } else if let Some(rest) = text.strip_prefix("pub ") {
            text = rest;
        } else {
            return text;
        }
    }
}

/// Returns the fields of a source that are collections, as `Struct.field`.
fn collections(code: &str) -> Vec<String> {
    let lines = code.lines().filter(|line| !line.trim().starts_with("//"));
    let code = lines.collect::<Vec<_>>().join("\n");
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let has = |text: &str, kind: &str| {
        let mut found = text.match_indices(kind);
        found.any(|(at, _)| !text[..at].ends_with(is_word))
    };
    let mut kinds: BTreeSet<String> = COLLECTIONS.map(str::to_owned).into();
    for item in code.split(';') {
        let mut lines = item.rsplit('\n').map(str::trim);
        let alias = lines.find_map(|line| match line.starts_with('#') {
            true => None,
            false => bare(line).strip_prefix("type "),
        });
        if let Some((name, kind)) = alias.and_then(|alias| alias.split_once('='))
            && COLLECTIONS.iter().any(|known| has(kind, known))
        {
            kinds.insert(name.split('<').next().unwrap().trim().to_owned());
        }
    }
    let mut found = Vec::new();
    for (at, _) in code.match_indices("struct ") {
        let line = code[..at].rsplit('\n').next().unwrap();
        let rest = &code[at + "struct ".len()..];
        let name = rest.split(|c| !is_word(c)).next().unwrap();
        if !matches!(line.trim(), "" | "pub") && !line.trim().starts_with("pub(") {
            continue;
        }
        // The parameters of a type can contain brackets.
        let mut depth = 0;
        let start = rest.char_indices().find(|(_, c)| {
            match c {
                '<' => depth += 1,
                '>' => depth -= 1,
                _ => {}
            }
            depth == 0 && matches!(c, '{' | '(' | ';')
        });
        let (start, kind) = start.unwrap();
        if kind == ';' {
            continue;
        }
        for (number, field) in fields(bracketed(&rest[start..])).into_iter().enumerate() {
            let field = bare(field);
            let (field, kind) = match (kind, field.split_once(':')) {
                ('{', Some((field, kind))) => (field.to_owned(), kind),
                _ => (number.to_string(), field),
            };
            if kinds.iter().any(|known| has(kind, known)) {
                found.push(format!("{name}.{field}"));
            }
        }
    }
    found
}

/// Returns the collections of the program, as `path Struct.field`.
fn all() -> BTreeSet<String> {
    let mut all = BTreeSet::new();
    for folder in ["src", "server/src"] {
        for (path, code) in sources(folder) {
            let path = format!("{folder}/{path}");
            let is_test = path.ends_with("/tests.rs") || path.contains("/tests/");
            if !is_test && !OTHERS.iter().any(|other| path.starts_with(other)) {
                let found = collections(&code).into_iter();
                all.extend(found.map(|field| format!("{path} {field}")));
            }
        }
    }
    all
}

#[test]
fn collections_are_found_in_all_forms_of_fields() {
    let code = "type Table = BTreeMap<u8, u8>;\n/// Not HashMap<u8, u8>.\nstruct One<S = ()> {\n    \
                #[serde(default)]\n    pub(super) map: Mutex<HashMap<u8, Fn(u8) -> u8>>,\n    \
                /// A VecDeque<u8>.\n    other: Vec<u8>,\n    table: Arc<Table>,\n}\npub(crate) \
                struct Two(u8, mpsc::Sender<u8>);\nstruct Three;\nstruct MyHashMap<T>(T);\nfn f(map: \
                HashMap<u8, u8>) {}\n";
    assert_eq!(collections(code), ["One.map", "One.table", "Two.1"]);
}

#[test]
fn each_collection_is_in_the_inventory_or_has_a_reason() {
    let list = read("tests/documents/collections.txt");
    let (mut listed, mut heading) = (BTreeMap::new(), "");
    for line in list.lines().filter(|line| !line.is_empty()) {
        match line.strip_prefix("  ") {
            Some(field) => {
                let before = listed.insert(field.to_owned(), heading);
                assert_eq!(before, None, "{field} is there twice");
            }
            None => heading = line,
        }
    }
    let all = all();
    assert!(all.len() > 150, "{}", all.len());
    let known: BTreeSet<String> = listed.keys().cloned().collect();
    let new: Vec<_> = all.difference(&known).collect();
    assert!(
        new.is_empty(),
        "add to the inventory, or to collections.txt with a reason: {new:#?}"
    );
    let old: Vec<_> = known.difference(&all).collect();
    assert!(old.is_empty(), "these do not exist: {old:#?}");
    let reports = sources("server/src");
    let reports = reports.iter().filter(|(_, code)| code.contains("Inventor"));
    let reports: String = reports.map(|(_, code)| code.as_str()).collect();
    for heading in listed.into_values().collect::<BTreeSet<_>>() {
        if let Some(name) = heading.strip_prefix("held: ") {
            let quoted = format!("\"{name}\"");
            assert!(reports.contains(&quoted), "the inventory has no {quoted}");
        } else {
            assert!(heading.starts_with("why: "), "{heading}");
        }
    }
}
