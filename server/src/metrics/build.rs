//! The version of the program, as a metric.

use roomcast::metrics::Exposition;

/// Writes the version, the commit and the compiler as labels. The commit is empty if
/// `BUILD_COMMIT` was not set at compile time.
pub(crate) fn expose(out: &mut Exposition) {
    let labels = [
        ("version", env!("CARGO_PKG_VERSION")),
        ("commit", option_env!("BUILD_COMMIT").unwrap_or_default()),
        ("rustc", env!("BUILD_RUSTC")),
    ];
    out.info(
        "roomcast_build_info",
        "The version of the program.",
        &labels,
    );
}
