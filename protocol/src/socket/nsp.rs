use std::fmt;

use bytes::Bytes;

/// The name of a namespace, with its leading slash.
///
/// A name from a decoder shares the bytes of its packet. To keep a name longer than the packet,
/// create a new one from [`as_str`](Self::as_str).
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Nsp(Bytes);

impl Nsp {
    /// The namespace `/`.
    pub const ROOT: Self = Self(Bytes::from_static(b"/"));

    /// Creates a name. `name` must be UTF-8 with a leading slash.
    pub(crate) const fn from_wire(name: Bytes) -> Self {
        Self(name)
    }

    /// Returns the name: `/` or `/chat`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }

    /// Returns whether the namespace is `/`.
    #[must_use]
    pub fn is_root(&self) -> bool {
        *self.0 == *b"/"
    }
}

/// Adds the leading slash if it is missing.
impl From<&str> for Nsp {
    fn from(name: &str) -> Self {
        match name.strip_prefix('/') {
            Some("") => Self::ROOT,
            Some(_) => Self(Bytes::copy_from_slice(name.as_bytes())),
            None => Self(format!("/{name}").into()),
        }
    }
}

impl Default for Nsp {
    fn default() -> Self {
        Self::ROOT
    }
}

impl AsRef<str> for Nsp {
    fn as_ref(&self) -> &str {
        self.as_str()
    }
}

impl PartialEq<str> for Nsp {
    fn eq(&self, other: &str) -> bool {
        *self.0 == *other.as_bytes()
    }
}

impl PartialEq<&str> for Nsp {
    fn eq(&self, other: &&str) -> bool {
        self == *other
    }
}

impl fmt::Display for Nsp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Debug for Nsp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

#[cfg(test)]
mod tests {
    use super::Nsp;

    #[test]
    fn a_name_gets_its_leading_slash() {
        assert_eq!(Nsp::from("chat").as_str(), "/chat");
        assert_eq!(Nsp::from("/chat").as_str(), "/chat");
        assert_eq!(Nsp::from(""), Nsp::ROOT);
        assert_eq!(Nsp::from("/"), Nsp::ROOT);
        assert!(Nsp::default().is_root());
        assert_eq!(Nsp::from("a"), "/a");
    }
}
