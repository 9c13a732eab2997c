use std::{fmt, sync::Arc};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use roomcast_protocol::Tag;
use serde::{Deserialize, Deserializer, Serialize, de::Error as _};
use serde_json::Value;

/// The data with which peers forward requests to a server: the tag in its session ids, and the key
/// that authenticates the sender as a server. Heartbeats contain it, so every known server can
/// forward.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Texts", into = "Texts")]
pub(crate) struct Forwarding {
    pub(crate) tag: Tag,
    pub(crate) key: [u8; Self::KEY],
}

impl Forwarding {
    const KEY: usize = 32;

    #[cfg(feature = "forwarding")]
    /// Creates a random value that cannot be guessed.
    pub(crate) fn random() -> Self {
        let (mut tag, mut key) = ([0; 6], [0; Self::KEY]);
        getrandom::fill(&mut tag).expect("the operating system gives random bytes");
        getrandom::fill(&mut key).expect("the operating system gives random bytes");
        Self {
            tag: Tag::from_random(tag),
            key,
        }
    }
}

/// Omits the key, because its holder can impersonate another server.
impl fmt::Debug for Forwarding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Forwarding")
            .field("tag", &self.tag)
            .finish_non_exhaustive()
    }
}

/// `Forwarding` in a heartbeat, with the key in URL-safe base64.
#[derive(Serialize, Deserialize)]
struct Texts {
    /// The version of the other fields.
    v: u32,
    tag: Arc<str>,
    key: Arc<str>,
}

impl TryFrom<Texts> for Forwarding {
    type Error = &'static str;

    fn try_from(texts: Texts) -> Result<Self, Self::Error> {
        let key = URL_SAFE_NO_PAD.decode(&*texts.key).ok();
        Ok(Self {
            tag: Tag::parse(&texts.tag).ok_or("not a tag")?,
            key: key.and_then(|key| key.try_into().ok()).ok_or("not a key")?,
        })
    }
}

impl From<Forwarding> for Texts {
    fn from(of: Forwarding) -> Self {
        Self {
            v: VERSION,
            tag: of.tag.as_str().into(),
            key: URL_SAFE_NO_PAD.encode(of.key).into(),
        }
    }
}

/// Reads the value if it has this version. Returns `None` for other versions: requests are not
/// forwarded to such a server, but the rest of its heartbeat counts.
pub(super) fn read_this_version<'de, D: Deserializer<'de>>(
    from: D,
) -> Result<Option<Forwarding>, D::Error> {
    let Some(value) = Option::<Value>::deserialize(from)? else {
        return Ok(None);
    };
    match value.get("v").and_then(Value::as_u64) {
        Some(v) if v == u64::from(VERSION) => {
            let forwarding = serde_json::from_value(value);
            forwarding.map(Some).map_err(D::Error::custom)
        }
        Some(_) => Ok(None),
        None => Err(D::Error::custom("not a version")),
    }
}

/// The version of the fields. It changes if servers of the previous version cannot use them.
const VERSION: u32 = 1;
