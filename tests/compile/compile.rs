//! What a user reads who writes what cannot work.
//!
//! The expected texts belong to the compiler of `rust-version`. `TRYBUILD=overwrite` writes them anew.

#[test]
fn what_cannot_compile_says_why() {
    trybuild::TestCases::new().compile_fail("cases/*.rs");
}
