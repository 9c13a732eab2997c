//! The JavaScript client that a server hands out: builds of the official one, which the application gives.

use std::{fs, io, path::Path};

use bytes::Bytes;

use crate::engine::compression::Encoding;

/// Builds of the JavaScript client, which the server then hands out below its path: `socket.io.js`, its
/// minified forms and their source maps. Given to
/// [`Builder::client_files`](crate::Builder::client_files).
///
/// ```no_run
/// use roomcast::{ClientFiles, Io};
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
    /// No file yet, of this version of the client, by which browsers know what they have already.
    pub fn new(version: impl Into<String>) -> Self {
        Self {
            version: version.into(),
            ..Self::default()
        }
    }

    /// No file, and the reason that whoever asks for one is told.
    pub fn missing(reason: impl Into<String>) -> Self {
        Self {
            missing: Some(reason.into()),
            ..Self::default()
        }
    }

    /// The builds in the folder `dist` of the npm package `socket.io-client`, which is at `package`.
    /// The files are read and compressed once, here.
    ///
    /// # Errors
    ///
    /// When a file cannot be read, there is none, or `package.json` has no version.
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
            // The files are compressed once, so that the highest level pays.
            for encoding in [Encoding::Gzip, Encoding::Deflate] {
                let smaller = encoding.compress(&plain, 9)?;
                files = files.file(format!("{name}.{}", suffix(encoding)), smaller);
            }
            files = files.file(name, plain);
        }
        if files.files.is_empty() {
            let fault = "there is no build of the client in `dist`";
            return Err(io::Error::new(io::ErrorKind::NotFound, fault));
        }
        Ok(files)
    }

    /// Adds a file by its name in the package. What is compressed already is added beside it, with
    /// `.br`, `.gz` (gzip) or `.zz` (zlib) behind the name.
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

    /// A file in fewer bytes, if it was given so.
    pub(crate) fn encoded(&self, name: &str, encoding: Encoding) -> Option<Bytes> {
        self.get(&format!("{name}.{}", suffix(encoding)))
    }
}

fn suffix(encoding: Encoding) -> &'static str {
    match encoding {
        Encoding::Brotli => "br",
        Encoding::Gzip => "gz",
        Encoding::Deflate => "zz",
    }
}

/// Every file there may be.
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
