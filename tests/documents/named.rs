//! Checks whether a test that a document names exists.

use std::path::Path;

/// Returns whether a source file has a test of this name, or one whose title starts with it.
pub(crate) fn has_test(file: &str, source: &str, name: &str) -> bool {
    if name.is_empty() {
        return false;
    }
    match Path::new(file)
        .extension()
        .and_then(|extension| extension.to_str())
    {
        Some("rs") => source.match_indices(&format!("fn {name}(")).any(|(at, _)| {
            let before = source[..at].trim_end_matches("async ").trim_end();
            let attributes = before.lines().rev();
            attributes
                .map(str::trim)
                .take_while(|line| line.starts_with("#[") || line.ends_with(")]"))
                .any(|line| line == "#[test]" || line.starts_with("#[tokio::test"))
        }),
        Some("mjs") => source.lines().map(str::trim_start).any(|line| {
            // `attack` defines a test with bystanders.
            let title = line
                .strip_prefix("test(")
                .or_else(|| line.strip_prefix("attack("));
            title.is_some_and(|title| title.get(1..).unwrap_or_default().contains(name))
        }),
        Some("py") => name.starts_with("test_") && source.contains(&format!("def {name}(")),
        _ => false,
    }
}

#[test]
fn tests_are_distinguished_from_lookalikes() {
    let rust = "#[test]\nfn works() {}\n\n#[tokio::test]\n#[cfg(unix)]\nasync fn waits() {}\n\n\
        fn helps() {}\nproptest! {\n    #[test]\n    fn holds(a in any::<u8>()) {}\n}\n";
    for name in ["works", "waits", "holds"] {
        assert!(has_test("a.rs", rust, name), "{name}");
    }
    for name in ["helps", "work", "orks", ""] {
        assert!(!has_test("a.rs", rust, name), "{name}");
    }
    let script =
        "// says nothing\ntest(`says ${word}`, async () => {});\nattack(\"ends\", () => {});\n";
    assert!(has_test("a.mjs", script, "says "));
    assert!(has_test("a.mjs", script, "ends"));
    assert!(!has_test("a.mjs", script, "nothing"));
    assert!(!has_test("a.mjs", script, ""));
    let python =
        "def helper(self): pass\n    def test_x(self): pass\n    async def test_y(self): pass\n";
    assert!(has_test("a.py", python, "test_x"));
    assert!(has_test("a.py", python, "test_y"));
    assert!(!has_test("a.py", python, "helper"));
}
