//! Builds of the JavaScript client that a server serves.

use std::{fs, io, path::Path};

use bytes::Bytes;

use crate::engine::compression::Encoding;

/// Builds of the JavaScript client, served below the server's path: `socket.io.js`, its minified
/// versions and their source maps. Passed to
/// [`Builder::client_files`](crate::Builder::client_files).
///
/// ```no_run
/// use roomcast::{Io, service::ClientFiles};
///
/// // After `npm install socket.io-client`.
/// let files = ClientFiles::from_package("node_modules/socket.io-client")?;
/// let io = Io::builder().client_files(files);
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct ClientFiles {
    version: String,
    files: Vec<(String, Bytes)>,
    missing: Option<String>,
}

impl ClientFiles {
    /// Creates an empty set for this client version, which browsers use for caching.
    pub fn new(version: impl Into<String>) -> Self {
        Self {
            version: version.into(),
            ..Self::default()
        }
    }

    /// Creates an empty set. Requests for a file receive this reason.
    pub fn missing(reason: impl Into<String>) -> Self {
        Self {
            missing: Some(reason.into()),
            ..Self::default()
        }
    }

    /// Reads the builds from the folder `dist` of the npm package `socket.io-client` at `package`.
    ///
    /// The files are read and compressed once, by this call.
    ///
    /// # Errors
    ///
    /// Fails if a file cannot be read, there is none, or `package.json` has no version.
    pub fn from_package(package: impl AsRef<Path>) -> io::Result<Self> {
        #[derive(serde::Deserialize)]
        struct Manifest {
            version: String,
        }
        let package = package.as_ref();
        let manifest: Manifest = serde_json::from_slice(&fs::read(package.join("package.json"))?)?;
        let mut files = Self::new(manifest.version);
        for name in NAMES {
            let plain = match fs::read(package.join("dist").join(name)) {
                Ok(plain) => plain,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            };
            // The files are compressed only once, so the highest level is worthwhile.
            for encoding in [Encoding::Gzip, Encoding::Deflate] {
                let smaller = encoding.compress(&plain, 9)?;
                files = files.file(format!("{name}.{}", suffix(encoding)), smaller);
            }
            files = files.file(name, plain);
        }
        if files.files.is_empty() {
            let fault = "`dist` has no build of the client";
            return Err(io::Error::new(io::ErrorKind::NotFound, fault));
        }
        Ok(files)
    }

    /// Adds a file by its name in the package. To add a compressed version, append `.br`, `.gz`
    /// (gzip), `.zst` (Zstandard) or `.zz` (zlib) to the name.
    #[must_use]
    pub fn file(mut self, name: impl Into<String>, content: impl Into<Bytes>) -> Self {
        let name = name.into();
        self.files.retain(|(other, _)| *other != name);
        self.files.push((name, content.into()));
        self
    }

    pub(crate) fn version(&self) -> &str {
        &self.version
    }

    pub(crate) fn why_missing(&self) -> Option<&str> {
        self.missing.as_deref()
    }

    pub(crate) fn get(&self, name: &str) -> Option<Bytes> {
        let file = self.files.iter().find(|(other, _)| other == name);
        file.map(|(_, content)| content.clone())
    }

    /// Returns a compressed version of a file, if it was added.
    pub(crate) fn encoded(&self, name: &str, encoding: Encoding) -> Option<Bytes> {
        self.get(&format!("{name}.{}", suffix(encoding)))
    }
}

fn suffix(encoding: Encoding) -> &'static str {
    match encoding {
        Encoding::Zstd => "zst",
        Encoding::Brotli => "br",
        Encoding::Gzip => "gz",
        Encoding::Deflate => "zz",
    }
}

/// The names of all possible files.
pub(crate) const NAMES: [&str; 8] = [
    "socket.io.esm.min.js",
    "socket.io.esm.min.js.map",
    "socket.io.js",
    "socket.io.js.map",
    "socket.io.min.js",
    "socket.io.min.js.map",
    "socket.io.msgpack.min.js",
    "socket.io.msgpack.min.js.map",
];
