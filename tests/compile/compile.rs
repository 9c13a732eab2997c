//! Compiler errors that users see for invalid code.
//!
//! The expected texts are those of the compiler in `rust-version`. `TRYBUILD=overwrite` rewrites
//! them.

#[test]
fn invalid_code_fails_with_a_clear_error() {
    trybuild::TestCases::new().compile_fail("cases/*.rs");
}
