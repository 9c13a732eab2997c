use std::{fmt, sync::Arc};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use roomcast_protocol::Tag;
use serde::{Deserialize, Deserializer, Serialize, de::Error as _};
use serde_json::Value;

/// What other servers need to hand requests on to a server: the tag in the ids of its sessions, and the key by
/// which it knows that they come from servers. Heartbeats tell it, so that whoever is heard of can be a sender.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Texts", into = "Texts")]
pub(crate) struct Forwarding {
    pub(crate) tag: Tag,
    pub(crate) key: [u8; Self::KEY],
    /// Whether it says when it hands a request on, and wants to be told so.
    pub(crate) is_timed: bool,
    /// Whether it answers challenges. Nothing is handed on to a server that does not.
    pub(crate) proves_itself: bool,
}

impl Forwarding {
    const KEY: usize = 32;

    #[cfg(feature = "forwarding")]
    /// A new one, which nobody can guess.
    pub(crate) fn random() -> Self {
        let (mut tag, mut key) = ([0; 6], [0; Self::KEY]);
        getrandom::fill(&mut tag).expect("the operating system gives random bytes");
        getrandom::fill(&mut key).expect("the operating system gives random bytes");
        Self {
            tag: Tag::from_random(tag),
            key,
            is_timed: true,
            proves_itself: true,
        }
    }
}

/// The key is left out: whoever has it may pose as another server.
impl fmt::Debug for Forwarding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Forwarding")
            .field("tag", &self.tag)
            .finish_non_exhaustive()
    }
}

/// `Forwarding` as a heartbeat has it, with the key in URL-safe base64.
#[derive(Serialize, Deserialize)]
struct Texts {
    /// The version of the rest.
    #[serde(default = "version")]
    v: u32,
    tag: Arc<str>,
    key: Arc<str>,
    /// Servers of the version before neither say this nor read it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    timed: bool,
    /// Servers of the version before answer no challenges.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    proves: bool,
}

impl TryFrom<Texts> for Forwarding {
    type Error = &'static str;

    fn try_from(texts: Texts) -> Result<Self, Self::Error> {
        let key = URL_SAFE_NO_PAD.decode(&*texts.key).ok();
        Ok(Self {
            tag: Tag::parse(&texts.tag).ok_or("not a tag")?,
            key: key.and_then(|key| key.try_into().ok()).ok_or("not a key")?,
            is_timed: texts.timed,
            proves_itself: texts.proves,
        })
    }
}

impl From<Forwarding> for Texts {
    fn from(of: Forwarding) -> Self {
        Self {
            v: VERSION,
            tag: of.tag.as_str().into(),
            key: URL_SAFE_NO_PAD.encode(of.key).into(),
            timed: of.is_timed,
            proves: of.proves_itself,
        }
    }
}

/// Reads what a server says that is of this version. To one of another version requests are not handed on, and the rest
/// of its heartbeat counts all the same.
pub(super) fn of_this_version<'de, D: Deserializer<'de>>(
    from: D,
) -> Result<Option<Forwarding>, D::Error> {
    let Some(said) = Option::<Value>::deserialize(from)? else {
        return Ok(None);
    };
    match said
        .get("v")
        .map_or_else(|| Some(u64::from(VERSION)), Value::as_u64)
    {
        Some(v) if v == u64::from(VERSION) => {
            let forwarding = serde_json::from_value(said);
            forwarding.map(Some).map_err(D::Error::custom)
        }
        Some(_) => Ok(None),
        None => Err(D::Error::custom("not a version")),
    }
}

/// What servers say that name no version.
const fn version() -> u32 {
    VERSION
}

/// The version of what is said. One that servers of the version before cannot use has another.
const VERSION: u32 = 1;
