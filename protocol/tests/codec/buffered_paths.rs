//! Paths in argument errors of types that serde buffers.

use serde::Deserialize;

use super::args::args;

#[derive(Debug, Deserialize)]
struct Inner {
    #[expect(dead_code, reason = "it is only read")]
    list: Vec<u8>,
}

#[derive(Debug, Deserialize)]
#[serde(tag = "t", content = "c")]
enum Adjacent {
    A(#[expect(dead_code, reason = "it is only read")] Inner),
}

#[derive(Debug, Deserialize)]
#[serde(tag = "t")]
enum Tagged {
    A(#[expect(dead_code, reason = "it is only read")] Inner),
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Untagged {
    A(#[expect(dead_code, reason = "it is only read")] Inner),
}

#[derive(Debug, Deserialize)]
struct Flat {
    #[serde(flatten)]
    #[expect(dead_code, reason = "it is only read")]
    inner: Inner,
}

#[derive(Debug, Deserialize)]
struct Outer<T> {
    #[expect(dead_code, reason = "it is only read")]
    a: T,
}

fn path<T: serde::de::DeserializeOwned + std::fmt::Debug>(json: &str) -> String {
    let error = args(json).get::<Outer<T>>(0).expect_err("it fits");
    error.path().to_owned()
}

#[test]
fn errors_name_the_deepest_place_that_serde_reads_directly() {
    let wrong = r#"{"list":[1,"x"]}"#;
    let tagged = r#"{"a":{"t":"A","list":[1,"x"]}}"#;
    assert_eq!(path::<Inner>(&format!(r#"{{"a":{wrong}}}"#)), "a.list[1]");
    // The tag comes first, so the content is read directly.
    let adjacent = path::<Adjacent>(&format!(r#"{{"a":{{"t":"A","c":{wrong}}}}}"#));
    assert_eq!(adjacent, "a.c.list[1]");
    // serde buffers these values before it reads them, and tracks no path in the buffer.
    let late = path::<Adjacent>(&format!(r#"{{"a":{{"c":{wrong},"t":"A"}}}}"#));
    assert_eq!(late, "a");
    assert_eq!(path::<Tagged>(tagged), "a");
    assert_eq!(path::<Untagged>(tagged), "a");
    assert_eq!(path::<Flat>(tagged), "a");
}
