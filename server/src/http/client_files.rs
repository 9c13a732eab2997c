//! The builds of the JavaScript client that `build.rs` fetched from npm. The library serves them.

use roomcast::service::ClientFiles;

/// Returns all embedded files, or the reason why there are none.
#[cfg(feature = "ui")]
pub(crate) fn embedded() -> ClientFiles {
    use std::borrow::Cow;

    #[derive(rust_embed::Embed)]
    #[folder = "$OUT_DIR/client"]
    struct Files;

    let text = |name| {
        let file = Files::get(name)?;
        Some(String::from_utf8_lossy(&file.data).into_owned())
    };
    if let Some(reason) = text(MISSING) {
        return ClientFiles::missing(reason);
    }
    let version = text(VERSION).unwrap_or_default();
    let names = Files::iter().filter(|name| name != VERSION);
    names.fold(
        ClientFiles::new(version.trim()),
        |files, name| match Files::get(&name).map(|file| file.data) {
            Some(Cow::Borrowed(content)) => files.file(name, content),
            Some(Cow::Owned(content)) => files.file(name, content),
            None => files,
        },
    )
}

#[cfg(not(feature = "ui"))]
pub(crate) fn embedded() -> ClientFiles {
    ClientFiles::missing(
        "The client is not part of this server: it was built without the feature `ui`.\n",
    )
}

/// The file that replaces the builds if npm could not provide them. It contains the reason.
#[cfg(feature = "ui")]
const MISSING: &str = "missing.txt";
/// The file that contains the version of the builds.
#[cfg(feature = "ui")]
const VERSION: &str = "version";
