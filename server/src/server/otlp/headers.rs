//! The file with headers of the requests to the collector.

use std::{fs, io::Read as _, os::unix::fs::MetadataExt as _, path::Path};

use http::{HeaderMap, HeaderName, HeaderValue};

/// Reads headers, one `Name: value` on each line. Empty lines are ignored.
///
/// # Errors
///
/// Returns the reason if the file cannot be used. It contains no part of the file.
pub(super) fn read(path: &Path) -> Result<HeaderMap, String> {
    let parsed = read_text(path).and_then(|text| parse(&text));
    parsed.map_err(|why| format!("otlp.headers_file: {}: {why}", path.display()))
}

fn read_text(path: &Path) -> Result<String, String> {
    let file = fs::File::open(path).map_err(|error| error.to_string())?;
    let metadata = file.metadata().map_err(|error| error.to_string())?;
    let mode = metadata.mode() & PERMISSIONS;
    if metadata.is_file() && mode & OTHERS != 0 {
        return Err(format!(
            "every user of this machine can access the file (mode {mode:o}): run `chmod o-rwx`"
        ));
    }
    let mut text = String::new();
    let read = file.take(MAX_BYTES + 1).read_to_string(&mut text);
    read.map_err(|error| error.to_string())?;
    if text.len() as u64 > MAX_BYTES {
        return Err(format!("it has more than {MAX_BYTES} bytes"));
    }
    Ok(text)
}

fn parse(text: &str) -> Result<HeaderMap, String> {
    let mut headers = HeaderMap::new();
    for (number, line) in text.lines().enumerate() {
        if line.trim().is_empty() {
            continue;
        }
        let fault = |why: &str| format!("line {}: {why}", number + 1);
        let (name, value) = line
            .split_once(':')
            .ok_or_else(|| fault("expected `Name: value`"))?;
        let name = HeaderName::from_bytes(name.trim().as_bytes())
            .map_err(|_| fault("not a name of a header"))?;
        let mut value = HeaderValue::from_str(value.trim())
            .map_err(|_| fault("the value has characters that headers cannot contain"))?;
        value.set_sensitive(true);
        if RESERVED.contains(&name.as_str()) {
            return Err(fault("the server sets this header itself"));
        }
        if headers.insert(name, value).is_some() {
            return Err(fault("the header was given before"));
        }
    }
    if headers.is_empty() {
        return Err("it has no header".to_owned());
    }
    Ok(headers)
}

/// Headers that describe the request.
const RESERVED: [&str; 9] = [
    "accept",
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "host",
    "te",
    "transfer-encoding",
    "user-agent",
];
/// Maximum size of the file.
const MAX_BYTES: u64 = 16 << 10;
/// The permission bits of a mode.
const PERMISSIONS: u32 = 0o7777;
/// All permissions of users who are neither the owner nor in the group.
const OTHERS: u32 = 0o007;

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn headers_file_is_private_and_has_a_header_on_each_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("headers");
        fs::write(&path, "Authorization: Bearer canary\r\n\nX-Tenant:  a b \n").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        let headers = read(&path).unwrap();
        assert_eq!(headers["authorization"], "Bearer canary");
        assert_eq!(headers["x-tenant"], "a b");
        assert!(!format!("{headers:?}").contains("canary"));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        let fault = read(&path).unwrap_err();
        assert!(
            fault.contains("mode 644") && !fault.contains("canary"),
            "{fault}"
        );
        assert!(read(&folder.path().join("missing")).is_err());
    }

    #[test]
    fn invalid_headers_are_refused_without_their_values() {
        for (text, reason) in [
            ("", "no header"),
            ("canary", "line 1: expected"),
            ("a: b\nna me: canary", "line 2: not a name"),
            ("a: can\u{1}ary", "characters"),
            ("Host: canary", "sets this header itself"),
            ("a: b\nA: canary", "given before"),
        ] {
            let fault = parse(text).unwrap_err();
            assert!(
                fault.contains(reason) && !fault.contains("canary"),
                "{fault}"
            );
        }
        let long = format!("a: {}", "x".repeat(20 << 10));
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("headers");
        fs::write(&path, long).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        assert!(read(&path).unwrap_err().contains("more than 16384 bytes"));
    }
}
