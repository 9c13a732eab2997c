//! The environment variables: those of the process, and those of a file, which a reload reads
//! again.

use std::{collections::BTreeMap, ffi::OsString, fs, path::Path};

use super::error::{Mistake, Place};

/// Variables, and mistakes in their file.
#[derive(Default)]
pub(in crate::cli) struct Environment {
    pub(super) variables: BTreeMap<OsString, OsString>,
    pub(super) origins: Origins,
    pub(super) mistakes: Vec<Mistake>,
}

/// The file of variables, and the line of each variable that it sets.
#[derive(Default)]
pub(super) struct Origins {
    file: String,
    lines: BTreeMap<String, usize>,
}

impl Origins {
    /// Returns where a variable is set: in a line of the file, or for the process.
    pub(super) fn place(&self, name: &str) -> Place {
        let Some(line) = self.lines.get(name) else {
            return Place::of(name);
        };
        let mut place = Place::of(self.file.as_str());
        place.line = Some(*line);
        place
    }
}

/// Reads the variables of a file over those of the process.
pub(in crate::cli) fn environment(
    file: Option<&Path>,
    process: impl Iterator<Item = (OsString, OsString)>,
) -> Environment {
    let mut environment = Environment {
        variables: process.collect(),
        ..Environment::default()
    };
    let Some(path) = file else {
        return environment;
    };
    let source = path.display().to_string();
    environment.origins.file.clone_from(&source);
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) => {
            let mistake = Mistake::at(Place::of(source), error.to_string());
            environment.mistakes.push(mistake);
            return environment;
        }
    };
    for (index, line) in text.lines().enumerate() {
        match parse(line) {
            Ok(Some((name, value))) => {
                environment.variables.insert(name.into(), value.into());
                environment.origins.lines.insert(name.to_owned(), index + 1);
            }
            Ok(None) => {}
            Err(fault) => {
                let mut place = Place::of(source.as_str());
                place.line = Some(index + 1);
                environment.mistakes.push(Mistake::at(place, fault));
            }
        }
    }
    environment
}

/// Parses a line. Returns `None` for an empty line or a comment. Errors do not repeat the line,
/// which may contain a secret.
fn parse(line: &str) -> Result<Option<(&str, &str)>, &'static str> {
    if line.trim().is_empty() || line.starts_with(['#', ';']) {
        return Ok(None);
    }
    let is_name = |name: &str| {
        let is_letter = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        !name.starts_with(|first: char| first.is_ascii_digit())
            && !name.is_empty()
            && name.bytes().all(is_letter)
    };
    let (name, value) = line.split_once('=').ok_or(EXPECTED)?;
    let value = value.trim();
    // Other programs remove quotes, and read a backslash as an escape or a continuation.
    let is_plain = !value.starts_with(['"', '\'']) && !value.contains(['\\', '\0']);
    match is_name(name) && is_plain {
        true => Ok(Some((name, value))),
        false => Err(EXPECTED),
    }
}

const EXPECTED: &str =
    "expected `NAME=VALUE` without quotes and backslashes, or a comment that begins with `#`";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_overrides_the_process_and_faults_name_their_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("roomcast.env");
        let text = "# secrets\n\n; more\nA=1\nB = 2\nC=\"canary\"\nD=x=y \ncanary\n0E=1\nF=a\\\nG=\nH= \"canary\"\nI=a\\b\n";
        fs::write(&path, text).unwrap();
        let process = [("A", "0"), ("Z", "26")].map(|(name, value)| (name.into(), value.into()));
        let read = environment(Some(&path), process.clone().into_iter());
        let expected = [("A", "1"), ("D", "x=y"), ("G", ""), ("Z", "26")];
        let expected = expected.map(|(name, value)| (name.into(), value.into()));
        assert_eq!(read.variables, BTreeMap::from(expected));
        let lines = read.mistakes.iter().map(|mistake| mistake.settings[0].line);
        assert_eq!(
            lines.collect::<Vec<_>>(),
            [5, 6, 8, 9, 10, 12, 13].map(Some)
        );
        let texts = read.mistakes.iter().map(Mistake::to_string);
        assert!(!texts.collect::<String>().contains("canary"));

        let absent = environment(Some(&folder.path().join("absent")), process.into_iter());
        assert_eq!((absent.variables.len(), absent.mistakes.len()), (2, 1));
    }
}
