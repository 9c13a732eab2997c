//! Sealing of notifications and rows.
//!
//! A sealed notification is base64. If the content does not fit, the notification names a row of
//! the table. Such a notification is sealed itself, contains the name of the sealed row, and ends
//! with the id of the row. Only a notification that opens causes a query, and only the row that it
//! names opens.

use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD as BASE64};
use bytes::Bytes;

use super::{connection::Body, inbound::Waiting, wire::MAX_TEXT};
use crate::adapter::{
    WireError,
    seal::{
        NAME_BYTES, OVERHEAD, Opener, Protection, Purpose, SealOptions, SealedName, Sealer,
        sealed_name,
    },
};

/// Seals the messages of a sender. Each connection has its own counter, and so do heartbeats, which
/// overtake other messages.
#[derive(Debug)]
pub(super) struct Sealers {
    together: Sealer,
    apart: Sealer,
    pulses: Sealer,
    rows: Sealer,
    pub(super) accepts_plain: bool,
}

/// The counter that a message uses.
#[derive(Clone, Copy, Debug)]
pub(super) enum Lane {
    Together,
    Apart,
    Pulses,
}

/// Opens notifications and rows.
#[derive(Debug)]
pub(crate) struct Openers {
    pub(super) notifications: Protection,
    rows: Option<Opener>,
}

fn notifications(key: &str) -> Purpose {
    Purpose::new("postgres notifications", key)
}

fn rows(key: &str) -> Purpose {
    Purpose::new("postgres attachments", key)
}

impl Sealers {
    pub(super) fn new(options: &SealOptions, key: &str) -> Option<Self> {
        let secrets = options.secrets.as_ref()?;
        let sealer = || Sealer::new(secrets, &notifications(key));
        Some(Self {
            together: sealer(),
            apart: sealer(),
            pulses: sealer(),
            rows: Sealer::new(secrets, &rows(key)),
            accepts_plain: options.accepts_plain,
        })
    }

    /// Seals a message for a place: as a notification, or as a row and its notification.
    pub(super) fn body(&self, lane: Lane, place: &str, message: &[u8]) -> Body {
        let sealer = match lane {
            Lane::Together => &self.together,
            Lane::Apart => &self.apart,
            Lane::Pulses => &self.pulses,
        };
        if message.len() <= MAX_SEALED {
            return Body::Text(BASE64.encode(sealer.seal(place.as_bytes(), message)));
        }
        let payload = self.rows.seal(place.as_bytes(), message);
        let name = sealed_name(&payload).unwrap_or_default();
        let mut head = BASE64.encode(sealer.seal(&row_place(place), &name));
        head.push(ROW);
        Body::Attached {
            head,
            payload,
            tail: "",
        }
    }
}

impl Openers {
    pub(crate) fn new(options: &SealOptions, key: &str) -> Self {
        let secrets = options.secrets.as_ref();
        Self {
            notifications: Protection::new(options, &notifications(key)),
            rows: secrets.map(|secrets| Opener::new(secrets, &rows(key))),
        }
    }

    /// Opens a notification.
    pub(super) fn open(&self, place: &str, text: &str) -> Result<Waiting, WireError> {
        let Some(opener) = self.notifications.opener() else {
            return Ok(Waiting::Text(text.to_owned()));
        };
        if !text.starts_with(SEALED) {
            self.notifications.accept_plain()?;
            return Ok(Waiting::Text(text.to_owned()));
        }
        let (text, row) = match text.split_once(ROW) {
            Some((head, id)) => {
                let id = id.parse().map_err(|_| WireError::Malformed("row"))?;
                (head, Some(id))
            }
            None => (text, None),
        };
        let malformed = |_| WireError::Malformed("base64");
        // If the header of a long text does not open, the rest is not even decoded.
        if let Some(first) = text.get(..FIRST).filter(|_| text.len() > SHORT) {
            let mut bytes = [0; FIRST / 4 * 3];
            let first = BASE64.decode_slice(first, &mut bytes);
            first.map_err(|_| WireError::Malformed("base64"))?;
            opener.may_open(&bytes)?;
        }
        let sealed = BASE64.decode(text).map_err(malformed)?.into();
        let Some(id) = row else {
            let message = opener.open(place.as_bytes(), sealed, None)?;
            return Ok(Waiting::Opened(message));
        };
        let name = opener.open(&row_place(place), sealed, None)?;
        let name = <SealedName>::try_from(&*name).map_err(|_| WireError::Malformed("row"))?;
        Ok(Waiting::Row { id, name })
    }

    /// Opens the row that a notification has named.
    pub(super) fn open_row(
        &self,
        place: &str,
        name: &SealedName,
        row: Bytes,
    ) -> Result<Bytes, WireError> {
        let rows = self.rows.as_ref().ok_or(WireError::Malformed("row"))?;
        if sealed_name(&row) != Some(*name) {
            return Err(WireError::Unopened(crate::adapter::Unopened::Forged));
        }
        rows.read(place.as_bytes(), row).map(|(message, _)| message)
    }
}

/// Returns the place to which the notification of a row is bound. No namespace and no channel of a
/// server has this prefix.
fn row_place(place: &str) -> Vec<u8> {
    ["row ", place].concat().into_bytes()
}

/// The first character of the base64 of every sealed message.
const SEALED: char = 'w';
/// The separator before the id of a row.
const ROW: char = '.';
/// The maximum content of a notification in bytes.
const MAX_SEALED: usize = MAX_TEXT / 4 * 3 + 2 - OVERHEAD;
/// The number of characters that contain the whole header.
/// The length up to which texts are decoded without a check of their header.
const FIRST: usize = 52;
const SHORT: usize = 1024;
const _: () = assert!(FIRST / 4 * 3 >= NAME_BYTES + 14);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adapter::{Secrets, Unopened};

    fn options(secret: u8) -> SealOptions {
        SealOptions {
            secrets: Some(Secrets::new([[secret; 32]]).unwrap()),
            accepts_plain: false,
        }
    }

    fn pair() -> (Sealers, Openers) {
        let sealers = Sealers::new(&options(1), "key").unwrap();
        (sealers, Openers::new(&options(1), "key"))
    }

    #[test]
    fn small_message_is_a_notification_and_a_larger_one_a_row() {
        let (sealers, openers) = pair();
        for length in [0, 1, 5_900, MAX_SEALED] {
            let message = vec![7; length];
            let Body::Text(text) = sealers.body(Lane::Together, "/", &message) else {
                panic!("{length} bytes fit");
            };
            assert!(text.len() <= MAX_TEXT && text.starts_with(SEALED));
            let opened = openers.open("/", &text).unwrap();
            assert!(matches!(opened, Waiting::Opened(opened) if opened == message));
            let again = openers.open("/", &text).unwrap_err();
            assert!(matches!(again, WireError::Unopened(Unopened::Replayed)));
        }
        let long = Bytes::from(vec![7; MAX_SEALED + 1]);
        let Body::Attached {
            head,
            payload,
            tail: "",
        } = sealers.body(Lane::Apart, "/", &long)
        else {
            panic!("it does not fit");
        };
        let Ok(Waiting::Row { id: 12, name }) = openers.open("/", &format!("{head}12")) else {
            panic!("no row");
        };
        let again = openers.open("/", &format!("{head}13")).unwrap_err();
        assert!(matches!(again, WireError::Unopened(Unopened::Replayed)));
        let row = |place, name, payload: &Bytes| {
            // A fetched row has its own buffer.
            openers.open_row(place, name, payload.to_vec().into())
        };
        assert_eq!(row("/", &name, &payload).unwrap(), long);
        assert_eq!(
            row("/", &name, &payload).unwrap(),
            long,
            "rows are read again"
        );
        assert!(row("/other", &name, &payload).is_err());
        let Body::Attached { payload: other, .. } = sealers.body(Lane::Apart, "/", &long) else {
            panic!("it does not fit");
        };
        assert!(row("/", &name, &other).is_err(), "it is another row");
    }

    #[test]
    fn notifications_open_at_their_place_alone_and_plain_ones_never() {
        let (sealers, openers) = pair();
        let Body::Text(text) = sealers.body(Lane::Pulses, "/", b"message") else {
            panic!("it fits");
        };
        let refused = |place: &str, text: &str| match openers.open(place, text) {
            Err(WireError::Unopened(why)) => Some(why),
            _ => None,
        };
        assert_eq!(refused("/other", &text), Some(Unopened::Forged));
        for plain in ["", "{}", r#"{"attachmentId":"1"}"#, "AQ"] {
            assert_eq!(refused("/", plain), Some(Unopened::Plain), "{plain}");
        }
        let (foreign, long) = (Sealers::new(&options(2), "key").unwrap(), [7; 4000]);
        let Body::Text(text) = foreign.body(Lane::Together, "/", &long) else {
            panic!("it fits");
        };
        assert_eq!(refused("/", &text), Some(Unopened::UnknownKey));
        // The rest after the header may then be invalid base64, because it is not decoded.
        let text = format!("{}{}", &text[..FIRST], "%".repeat(SHORT));
        assert_eq!(refused("/", &text), Some(Unopened::UnknownKey));
        let cluster = Sealers::new(&options(1), "other").unwrap();
        let Body::Text(text) = cluster.body(Lane::Together, "/", b"message") else {
            panic!("it fits");
        };
        assert_eq!(
            refused("/", &text),
            Some(Unopened::Forged),
            "of another cluster"
        );
        assert!(openers.open("/", "w.x").is_err() && openers.open("/", "w%").is_err());
    }
}
