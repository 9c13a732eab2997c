//! The messages between servers that are committed in `tests/corpus`. Servers of all later versions
//! must read them.

use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;
use uuid::Uuid;

use super::{read, write};

/// The store id in all of these messages.
pub(crate) const STORE: Uuid = Uuid::from_u128(1);

/// One message: its type, its name, and its text.
pub(crate) struct Line {
    pub(crate) is: String,
    pub(crate) name: String,
    pub(crate) text: String,
}

/// Returns the messages of a file.
pub(crate) fn lines(file: &str) -> Vec<Line> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/corpus/");
    let corpus = std::fs::read_to_string(format!("{folder}{file}")).unwrap();
    let lines = corpus.lines().filter(|line| !line.starts_with('#'));
    let lines: Vec<_> = lines
        .map(|line| {
            let parts: Vec<_> = line.split('\t').map(str::to_owned).collect();
            let [is, name, text] = parts.try_into().unwrap();
            Line { is, name, text }
        })
        .collect();
    assert!(!lines.is_empty(), "{file} has no text");
    lines
}

/// Checks that the messages of one type in a file are read, and that everything in them is written
/// again. Returns their number.
pub(crate) fn read_back<T: DeserializeOwned + Serialize>(file: &str, is: &str) -> usize {
    let meant = lines(file).into_iter().filter(|line| line.is == is);
    let check = |Line { name, text, .. }: Line| {
        let again = write(STORE, &read::<T>(STORE, &text).unwrap()).unwrap();
        assert!(contains_all(&text, &again), "{name}: {again}");
    };
    meant.map(check).count()
}

/// Returns whether `after` contains everything in `before`. Later versions may add to it.
pub(crate) fn contains_all(before: &str, after: &str) -> bool {
    let [before, after] = [before, after].map(|json| serde_json::from_str(json).unwrap());
    contains(&before, &after)
}

fn contains(before: &Value, after: &Value) -> bool {
    match (before, after) {
        (Value::Object(before), Value::Object(after)) => before.iter().all(|(name, value)| {
            let after = after.get(name);
            after.is_some_and(|after| contains(value, after))
        }),
        (Value::Array(before), Value::Array(after)) => {
            let mut both = before.iter().zip(after);
            before.len() == after.len() && both.all(|(a, b)| contains(a, b))
        }
        _ => before == after,
    }
}
