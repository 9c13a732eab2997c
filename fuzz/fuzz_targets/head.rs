//! A head that is parsed without hyper has the same content as its lines and names one host. No
//! header changes the length of its body.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some(head) = roomcast::fuzzing::head(data) else {
        return;
    };
    let (len, body) = head.len;
    let mut lines = data[..len]
        .split(|byte| *byte == b'\n')
        .map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    let (method, target) = &head.line;
    let line = lines.next().unwrap();
    let sent = line
        .strip_prefix(format!("{method} ").as_bytes())
        .and_then(|line| line.strip_suffix(b" HTTP/1.1"));
    let sent = sent.expect("a request line of HTTP/1.1");
    let sent = sent.split(|byte| *byte == b'#').next().unwrap();
    assert_eq!(sent, target.as_bytes());
    assert!(matches!(method.as_str(), "GET" | "POST" | "OPTIONS"));

    let mut sent: Vec<(String, Vec<u8>)> = Vec::new();
    for line in lines.by_ref().take_while(|line| !line.is_empty()) {
        let colon = line.iter().position(|byte| *byte == b':').unwrap();
        let name = String::from_utf8(line[..colon].to_ascii_lowercase()).unwrap();
        sent.push((name, trim(&line[colon + 1..]).to_vec()));
    }
    // The empty line was the last one.
    assert_eq!(lines.next(), Some(&b""[..]));
    assert_eq!(lines.next(), None);
    let values = |all: &[(String, Vec<u8>)], name: &str| -> Vec<Vec<u8>> {
        let of_name = all.iter().filter(|(known, _)| known == name);
        of_name.map(|(_, value)| value.clone()).collect()
    };
    assert_eq!(sent.len(), head.headers.len());
    for (name, _) in &sent {
        assert_eq!(values(&sent, name), values(&head.headers, name));
    }

    assert_eq!(values(&sent, "host").len(), 1);
    assert!(values(&sent, "transfer-encoding").is_empty());
    match values(&sent, "content-length").as_slice() {
        [] => assert_eq!(body, 0),
        [length] => {
            assert!(length.iter().all(u8::is_ascii_digit));
            let length = std::str::from_utf8(length).unwrap();
            assert_eq!(length.parse(), Ok(body));
        }
        more => panic!("{more:?}"),
    }
});

/// Without the white space that HTTP allows around a value.
fn trim(mut value: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}
