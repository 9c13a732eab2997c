//! Sealing for Redis: messages on channels, entries of a stream, and sessions.

use bytes::{BufMut as _, Bytes, BytesMut};

use super::{
    broker::BrokerLink,
    connection::Sent,
    streams::{Read, Stream, StreamEntry},
};
use crate::adapter::{
    WireError,
    common::Broker as _,
    interface::AdapterError,
    node_js::malformed,
    seal::{Purpose, SealOptions, Sealer},
};

/// Seals the messages of a sender.
#[derive(Debug)]
pub(super) struct Sealers {
    channels: Sealer,
    stream: Sealer,
    accepts_plain: bool,
}

/// Returns the key purpose for messages on channels.
pub(super) fn channels(key: &str) -> Purpose {
    Purpose::new("redis channels", key)
}

/// Returns the key purpose for entries of a stream.
pub(super) fn entries(key: &str) -> Purpose {
    Purpose::new("redis stream", key)
}

/// Returns the key purpose for sessions of disconnected clients.
pub(super) fn sessions(key: &str) -> Purpose {
    Purpose::new("redis sessions", key)
}

impl Sealers {
    pub(super) fn new(options: &SealOptions, key: &str) -> Option<Self> {
        let secrets = options.secrets.as_ref()?;
        Some(Self {
            channels: Sealer::new(secrets, &channels(key)),
            stream: Sealer::new(secrets, &entries(key)),
            accepts_plain: options.accepts_plain,
        })
    }

    /// Returns the sealed form of a message, and the plain form if both are sent. An entry contains
    /// both forms, so that it has one position.
    fn forms(&self, sent: Sent) -> (Sent, Option<Sent>) {
        match sent {
            Sent::Message(channel, payload) => {
                let sealed = self.channels.seal(channel.as_bytes(), &payload);
                let sealed = Sent::Message(channel.clone(), sealed);
                let plain = self.accepts_plain;
                (sealed, plain.then_some(Sent::Message(channel, payload)))
            }
            Sent::Entry(stream, mut entry, waiting) => {
                let sealed = self.stream.seal(place(&stream), &pack(&entry));
                entry.seal(sealed, self.accepts_plain);
                (Sent::Entry(stream, entry, waiting), None)
            }
            command @ Sent::Command(..) => (command, None),
        }
    }

    /// Sends a message sealed, or in both forms.
    pub(super) fn send(&self, link: &BrokerLink, sent: Sent) -> Result<(), AdapterError> {
        let (sealed, plain) = self.forms(sent);
        link.publish(sealed)?;
        plain.map_or(Ok(()), |plain| link.publish(plain))
    }

    /// Sends only the sealed form of a message.
    pub(super) fn send_sealed(&self, link: &BrokerLink, sent: Sent) -> Result<(), AdapterError> {
        link.publish(self.forms(sent).0)
    }

    /// Returns whether this server has sealed the message on a channel, according to its header.
    pub(super) fn have_sealed(&self, message: &[u8]) -> bool {
        self.channels.has_sealed(message)
    }

    /// Returns whether this server has sealed the entry, according to its header.
    pub(super) fn have_sealed_entry(&self, entry: &[u8]) -> bool {
        self.stream.has_sealed(entry)
    }
}

/// Returns the place to which entries of a stream are bound.
pub(super) const fn place(stream: &Stream) -> &[u8] {
    stream.name.as_bytes()
}

/// Packs the fields of an entry. Each of the first three is preceded by its length.
fn pack(entry: &StreamEntry) -> Bytes {
    let fields = [&*entry.uid, entry.nsp.as_str(), entry.kind];
    let length: usize = fields.iter().map(|field| field.len() + LENGTH).sum();
    let mut packed = BytesMut::with_capacity(length + entry.data.len());
    for field in fields {
        // The names of servers and namespaces are far shorter than that.
        packed.put_u32_le(u32::try_from(field.len()).unwrap_or(u32::MAX));
        packed.put_slice(field.as_bytes());
    }
    packed.put_slice(&entry.data);
    packed.freeze()
}

/// Sets the fields of an opened entry.
pub(super) fn unpack(entry: &mut Read, mut packed: Bytes) -> Result<(), WireError> {
    let mut field = || {
        let length = packed.split_to_checked(LENGTH)?;
        let length = u32::from_le_bytes(<[u8; LENGTH]>::try_from(&*length).ok()?);
        let field = packed.split_to_checked(usize::try_from(length).ok()?)?;
        String::from_utf8(field.to_vec()).ok()
    };
    let (uid, nsp, kind) = (field(), field(), field());
    if kind.is_none() {
        return Err(malformed("sealed entry"));
    }
    (entry.uid, entry.nsp, entry.kind) = (uid, nsp, kind);
    entry.data = packed;
    Ok(())
}

/// Splits off the first bytes, if there are enough.
trait SplitChecked {
    fn split_to_checked(&mut self, length: usize) -> Option<Bytes>;
}

impl SplitChecked for Bytes {
    fn split_to_checked(&mut self, length: usize) -> Option<Bytes> {
        (length <= self.len()).then(|| self.split_to(length))
    }
}

/// The size of a length field in bytes.
const LENGTH: usize = 4;

#[cfg(test)]
mod tests {
    use roomcast_protocol::socket::Nsp;

    use super::*;

    #[test]
    fn entries_are_unpacked_as_they_were_packed() {
        let entry = StreamEntry {
            uid: "me".to_owned(),
            nsp: Nsp::from("/é"),
            kind: "03",
            data: Bytes::from_static(b"{}"),
            sealed: None,
            is_plain: true,
        };
        let packed = pack(&entry);
        let mut read = Read::default();
        unpack(&mut read, packed.clone()).unwrap();
        let fields = (
            read.uid.as_deref(),
            read.nsp.as_deref(),
            read.kind.as_deref(),
        );
        assert_eq!(fields, (Some("me"), Some("/é"), Some("03")));
        assert_eq!(read.data, "{}");
        for length in 0..packed.len() - 2 {
            assert!(unpack(&mut Read::default(), packed.slice(..length)).is_err());
        }
    }
}
