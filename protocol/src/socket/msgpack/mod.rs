//! The wire format of `socket.io-msgpack-parser`: every packet is one binary message, a MessagePack
//! map.
//!
//! The map has the keys `type`, `nsp`, `data` and optionally `id`, in any order; other keys are
//! ignored. It contains binary values in place, so there is nothing to reassemble. This module
//! supports the extensions of that parser's library (notepack.io 2): `undefined`, dates and array
//! buffers have extension type 0.
//!
//! A message is checked once, when it arrives ([`packet`]). A handler's values are read from the
//! same bytes on request ([`de`]).

mod date;
mod de;
mod packet;
mod ser;
mod token;
#[cfg(test)]
mod work;
mod write;

pub(super) use de::Deserializer;
pub(super) use packet::{Kinds, decode, document, entries, items};
pub(super) use ser::Serializer;
pub(super) use write::{Header, begin, begin_list, payload};
