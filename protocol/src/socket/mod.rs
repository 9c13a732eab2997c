//! Socket.IO v5: packets, raw arguments, binary reassembly, encoding.

mod answer;
mod args;
mod argument_error;
mod attachment;
mod decoder;
pub mod encode;
mod json;
#[cfg(feature = "msgpack")]
mod msgpack;
mod nsp;
mod packet;
mod parser;
mod serializer;
mod value;

pub use args::{Args, Argument, Iter};
pub use argument_error::ArgumentError;
pub use decoder::{Decoder, Limits};
pub use encode::{Arguments, EncodeError, Encoder};
pub use nsp::Nsp;
pub use packet::{Kind, Packet, RESERVED_EVENTS};
pub use parser::{Custom, CustomMessage, CustomPacket, CustomParser, CustomParserError, Parser};
pub use value::{Binary, Value};
