//! The wire of `socket.io-msgpack-parser`: every packet is one binary message, a MessagePack map.
//!
//! The map has the keys `type`, `nsp`, `data` and maybe `id`, in any order; others are ignored.
//! Binary values stand where they belong, so there is nothing to reassemble. What is peculiar to
//! the library behind that parser (notepack.io 2) is known here too: `undefined`, dates and array
//! buffers are extensions of type 0.
//!
//! A message is checked once, when it arrives ([`packet`]); what it holds is read when a handler
//! asks for it ([`de`]), from the same bytes.

mod date;
mod de;
mod packet;
mod ser;
mod token;
#[cfg(test)]
mod work;
mod write;

pub(super) use de::Deserializer;
pub(super) use packet::{decode, document, entries, items};
pub(super) use ser::Serializer;
pub(super) use write::{Header, begin, begin_list, payload};
