//! Serialises values as arguments.

use std::io;

use serde::{Serialize, Serializer, ser};
use serde_json::{Error, ser::Formatter};

#[cfg(feature = "msgpack")]
use super::msgpack;
use super::{
    attachment::placeholders::{NUM, PLACEHOLDER},
    encode::{Encoder, MAX_ATTACHMENTS},
};
use crate::frame::Attachments;

/// A JSON serialiser that stores bytes as attachments.
pub(super) type Json<'a> = serde_json::Serializer<&'a mut Vec<u8>, Placeholders<'a>>;

pub(super) fn json<'a>(text: &'a mut Vec<u8>, attachments: &'a mut Attachments) -> Json<'a> {
    serde_json::Serializer::with_formatter(text, Placeholders(attachments))
}

/// Writes compact JSON with placeholder objects for bytes.
pub(super) struct Placeholders<'a>(&'a mut Attachments);

impl Formatter for Placeholders<'_> {
    fn write_byte_array<W: ?Sized + io::Write>(
        &mut self,
        writer: &mut W,
        value: &[u8],
    ) -> io::Result<()> {
        // Finishing refuses a packet with more attachments, so these need not be copied.
        let is_taken = self.0.len() < MAX_ATTACHMENTS;
        let number = self.0.push(if is_taken { value } else { &[] });
        write!(writer, "{{\"{PLACEHOLDER}\":true,\"{NUM}\":{number}}}")
    }
}

/// A serialiser for one argument.
pub(super) trait Open<'a> {
    fn open(encoder: &'a mut Encoder) -> Self;
}

impl<'a> Open<'a> for Json<'a> {
    fn open(encoder: &'a mut Encoder) -> Self {
        encoder.json()
    }
}

#[cfg(feature = "msgpack")]
impl<'a> Open<'a> for msgpack::Serializer<'a> {
    fn open(encoder: &'a mut Encoder) -> Self {
        encoder.messagepack()
    }
}

/// The serialiser of all arguments: a tuple is several arguments, `()` is none, every other type is
/// one.
pub(super) struct Root<'a, 'b, S> {
    pub(super) encoder: &'a mut Encoder,
    /// Whether the value has size zero. A JSON null also serialises as a unit, but is one argument
    /// and has a size.
    pub(super) is_empty: bool,
    /// Holds the serialiser of a single argument while it is written.
    pub(super) slot: &'b mut Option<S>,
}

impl<'a, 'b, S: Open<'a>> Root<'a, 'b, S> {
    fn one(self) -> &'b mut S {
        self.encoder.separate();
        self.slot.insert(S::open(self.encoder))
    }
}

macro_rules! scalars {
    ($($method:ident($type:ty);)*) => {
        $(fn $method(self, value: $type) -> Result<(), Error> {
            self.one().$method(value)
        })*
    };
}

impl<'a, 'b, S: Open<'a>> Serializer for Root<'a, 'b, S>
where
    &'b mut S: Serializer<Ok = (), Error = Error>,
{
    type Ok = ();
    type Error = Error;
    type SerializeSeq = <&'b mut S as Serializer>::SerializeSeq;
    type SerializeTuple = ArgumentTuple<'a>;
    type SerializeTupleStruct = <&'b mut S as Serializer>::SerializeTupleStruct;
    type SerializeTupleVariant = <&'b mut S as Serializer>::SerializeTupleVariant;
    type SerializeMap = <&'b mut S as Serializer>::SerializeMap;
    type SerializeStruct = <&'b mut S as Serializer>::SerializeStruct;
    type SerializeStructVariant = <&'b mut S as Serializer>::SerializeStructVariant;

    fn serialize_unit(self) -> Result<(), Error> {
        if self.is_empty {
            return Ok(());
        }
        self.one().serialize_unit()
    }

    fn serialize_tuple(self, _: usize) -> Result<ArgumentTuple<'a>, Error> {
        Ok(ArgumentTuple(self.encoder))
    }

    scalars! {
        serialize_bool(bool);
        serialize_i8(i8);
        serialize_i16(i16);
        serialize_i32(i32);
        serialize_i64(i64);
        serialize_i128(i128);
        serialize_u8(u8);
        serialize_u16(u16);
        serialize_u32(u32);
        serialize_u64(u64);
        serialize_u128(u128);
        serialize_f32(f32);
        serialize_f64(f64);
        serialize_char(char);
        serialize_str(&str);
        serialize_bytes(&[u8]);
        serialize_unit_struct(&'static str);
    }

    fn serialize_none(self) -> Result<(), Error> {
        self.one().serialize_none()
    }

    fn serialize_some<T: ?Sized + Serialize>(self, value: &T) -> Result<(), Error> {
        self.one().serialize_some(value)
    }

    fn serialize_unit_variant(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
    ) -> Result<(), Error> {
        self.one().serialize_unit_variant(name, index, variant)
    }

    fn serialize_newtype_struct<T: ?Sized + Serialize>(
        self,
        name: &'static str,
        value: &T,
    ) -> Result<(), Error> {
        self.one().serialize_newtype_struct(name, value)
    }

    fn serialize_newtype_variant<T: ?Sized + Serialize>(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<(), Error> {
        self.one()
            .serialize_newtype_variant(name, index, variant, value)
    }

    fn serialize_seq(self, length: Option<usize>) -> Result<Self::SerializeSeq, Error> {
        self.one().serialize_seq(length)
    }

    fn serialize_tuple_struct(
        self,
        name: &'static str,
        length: usize,
    ) -> Result<Self::SerializeTupleStruct, Error> {
        self.one().serialize_tuple_struct(name, length)
    }

    fn serialize_tuple_variant(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
        length: usize,
    ) -> Result<Self::SerializeTupleVariant, Error> {
        self.one()
            .serialize_tuple_variant(name, index, variant, length)
    }

    fn serialize_map(self, length: Option<usize>) -> Result<Self::SerializeMap, Error> {
        self.one().serialize_map(length)
    }

    fn serialize_struct(
        self,
        name: &'static str,
        length: usize,
    ) -> Result<Self::SerializeStruct, Error> {
        self.one().serialize_struct(name, length)
    }

    fn serialize_struct_variant(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
        length: usize,
    ) -> Result<Self::SerializeStructVariant, Error> {
        self.one()
            .serialize_struct_variant(name, index, variant, length)
    }
}

/// The elements of a tuple, each an argument.
pub(super) struct ArgumentTuple<'a>(&'a mut Encoder);

impl ser::SerializeTuple for ArgumentTuple<'_> {
    type Ok = ();
    type Error = Error;

    fn serialize_element<T: ?Sized + Serialize>(&mut self, value: &T) -> Result<(), Error> {
        self.0.one(value)
    }

    fn end(self) -> Result<(), Error> {
        Ok(())
    }
}
