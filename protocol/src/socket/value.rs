//! Dynamically typed values.

use std::{collections::BTreeMap, fmt, marker::PhantomData, ops::Deref};

use bytes::Bytes;
use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{
        self, IntoDeserializer, MapAccess, SeqAccess, Visitor,
        value::{MapAccessDeserializer, MapDeserializer, SeqDeserializer},
    },
    forward_to_deserialize_any,
};
use serde_json::{Map, Number};

use super::attachment::BINARY;

/// Any value that a client can send: JSON or binary.
///
/// This type corresponds to [`serde_json::Value`], which cannot represent binary data, so that
/// reading such an argument as one fails. This type keeps binary data and sends it unchanged.
#[derive(Clone, Debug, Default, PartialEq)]
#[expect(
    clippy::exhaustive_enums,
    reason = "the protocol knows no other values"
)]
pub enum Value {
    /// `null`.
    #[default]
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A number.
    Number(Number),
    /// A text.
    String(String),
    /// Binary data: an attachment in JSON, or a binary value in MessagePack.
    Binary(Bytes),
    /// A list.
    Array(Vec<Self>),
    /// An object, sorted by key.
    Object(BTreeMap<String, Self>),
}

impl Value {
    /// Returns the text, if the value is a string.
    #[must_use]
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::String(text) => Some(text),
            Self::Null
            | Self::Bool(_)
            | Self::Number(_)
            | Self::Binary(_)
            | Self::Array(_)
            | Self::Object(_) => None,
        }
    }

    /// Returns the bytes, if the value is binary.
    #[must_use]
    pub const fn as_binary(&self) -> Option<&Bytes> {
        match self {
            Self::Binary(data) => Some(data),
            Self::Null
            | Self::Bool(_)
            | Self::Number(_)
            | Self::String(_)
            | Self::Array(_)
            | Self::Object(_) => None,
        }
    }

    /// Returns the value of this key, if the value is an object that contains it.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Self> {
        match self {
            Self::Object(fields) => fields.get(key),
            Self::Null
            | Self::Bool(_)
            | Self::Number(_)
            | Self::String(_)
            | Self::Binary(_)
            | Self::Array(_) => None,
        }
    }

    /// Returns the value as JSON, or `None` if it contains binary data.
    #[must_use]
    pub fn to_json(&self) -> Option<serde_json::Value> {
        Some(match self {
            Self::Null => serde_json::Value::Null,
            Self::Bool(value) => (*value).into(),
            Self::Number(number) => number.clone().into(),
            Self::String(text) => text.as_str().into(),
            Self::Binary(_) => return None,
            Self::Array(values) => values.iter().map(Self::to_json).collect::<Option<_>>()?,
            Self::Object(fields) => {
                let field = |(key, value): (&String, &Self)| Some((key.clone(), value.to_json()?));
                let fields: Option<Map<_, _>> = fields.iter().map(field).collect();
                fields?.into()
            }
        })
    }
}

impl Value {
    /// Returns the value as `JSON.stringify` of Node.js writes it, with binary data as a `Buffer`:
    /// `{"type":"Buffer","data":[1,2]}`.
    #[must_use]
    pub fn to_json_with_buffers(&self) -> serde_json::Value {
        match self {
            Self::Binary(data) => {
                let data = data.iter().copied().collect();
                let fields = [("type", "Buffer".into()), ("data", data)];
                let fields = fields.map(|(key, value): (_, serde_json::Value)| (key.into(), value));
                serde_json::Value::Object(fields.into_iter().collect())
            }
            Self::Array(values) => values.iter().map(Self::to_json_with_buffers).collect(),
            Self::Object(fields) => {
                let field =
                    |(key, value): (&String, &Self)| (key.clone(), value.to_json_with_buffers());
                serde_json::Value::Object(fields.iter().map(field).collect())
            }
            Self::Null | Self::Bool(_) | Self::Number(_) | Self::String(_) => {
                self.to_json().unwrap_or_default()
            }
        }
    }

    /// Returns whether the value contains binary data.
    #[must_use]
    pub fn has_binary(&self) -> bool {
        match self {
            Self::Binary(_) => true,
            Self::Array(values) => values.iter().any(Self::has_binary),
            Self::Object(fields) => fields.values().any(Self::has_binary),
            Self::Null | Self::Bool(_) | Self::Number(_) | Self::String(_) => false,
        }
    }
}

impl From<Bytes> for Value {
    fn from(data: Bytes) -> Self {
        Self::Binary(data)
    }
}

impl From<serde_json::Value> for Value {
    fn from(value: serde_json::Value) -> Self {
        match value {
            serde_json::Value::Null => Self::Null,
            serde_json::Value::Bool(value) => Self::Bool(value),
            serde_json::Value::Number(number) => Self::Number(number),
            serde_json::Value::String(text) => Self::String(text),
            serde_json::Value::Array(values) => {
                Self::Array(values.into_iter().map(Into::into).collect())
            }
            serde_json::Value::Object(fields) => {
                let field = |(key, value): (String, serde_json::Value)| (key, value.into());
                Self::Object(fields.into_iter().map(field).collect())
            }
        }
    }
}

/// A value with binary data equals no JSON value.
impl PartialEq<serde_json::Value> for Value {
    fn eq(&self, other: &serde_json::Value) -> bool {
        self.to_json().as_ref() == Some(other)
    }
}

impl Serialize for Value {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Null => serializer.serialize_none(),
            Self::Bool(value) => serializer.serialize_bool(*value),
            Self::Number(number) => number.serialize(serializer),
            Self::String(text) => serializer.serialize_str(text),
            Self::Binary(data) => serializer.serialize_bytes(data),
            Self::Array(values) => serializer.collect_seq(values),
            Self::Object(fields) => serializer.collect_map(fields),
        }
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;

        impl<'de> Visitor<'de> for Any {
            type Value = Value;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("any value")
            }

            fn visit_unit<E>(self) -> Result<Value, E> {
                Ok(Value::Null)
            }

            fn visit_none<E>(self) -> Result<Value, E> {
                Ok(Value::Null)
            }

            fn visit_some<D: Deserializer<'de>>(self, inner: D) -> Result<Value, D::Error> {
                Value::deserialize(inner)
            }

            fn visit_newtype_struct<D: Deserializer<'de>>(
                self,
                inner: D,
            ) -> Result<Value, D::Error> {
                Value::deserialize(inner)
            }

            fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
                Ok(Value::Bool(value))
            }

            fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
                Ok(Value::Number(value.into()))
            }

            fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
                Ok(Value::Number(value.into()))
            }

            fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
                // JSON has neither infinities nor NaN. JavaScript writes null for them.
                Ok(Number::from_f64(value).map_or(Value::Null, Value::Number))
            }

            fn visit_str<E>(self, value: &str) -> Result<Value, E> {
                Ok(Value::String(value.into()))
            }

            fn visit_string<E>(self, value: String) -> Result<Value, E> {
                Ok(Value::String(value))
            }

            fn visit_bytes<E>(self, value: &[u8]) -> Result<Value, E> {
                Ok(Value::Binary(Bytes::copy_from_slice(value)))
            }

            fn visit_byte_buf<E>(self, value: Vec<u8>) -> Result<Value, E> {
                Ok(Value::Binary(value.into()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
                // The size hint reserves no capacity: a value takes far more memory than the byte
                // that announces it.
                let mut values = Vec::new();
                while let Some(value) = seq.next_element()? {
                    values.push(value);
                }
                Ok(Value::Array(values))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
                let mut fields = BTreeMap::new();
                while let Some((key, value)) = map.next_entry()? {
                    fields.insert(key, value);
                }
                Ok(Value::Object(fields))
            }
        }

        deserializer.deserialize_any(Any)
    }
}

/// Bytes that accept only binary data, in every type.
///
/// [`Bytes`] do so as arguments and in structs and plain enums. But serde reads some types into a
/// buffer first: enums with `tag`, with `tag` and `content`, or `untagged`, and structs with
/// `flatten`. In those, `Bytes` accept text and lists of numbers, so a client could substitute one
/// for the other.
///
/// ```
/// use roomcast_protocol::socket::Binary;
///
/// #[derive(serde::Deserialize)]
/// #[serde(tag = "type")]
/// enum Message {
///     Text { text: String },
///     File { name: String, data: Binary },
/// }
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Binary(Bytes);

impl Binary {
    /// Returns the bytes.
    #[must_use]
    pub fn into_bytes(self) -> Bytes {
        self.0
    }
}

impl Deref for Binary {
    type Target = Bytes;

    fn deref(&self) -> &Bytes {
        &self.0
    }
}

impl From<Bytes> for Binary {
    fn from(data: Bytes) -> Self {
        Self(data)
    }
}

impl From<Binary> for Bytes {
    fn from(binary: Binary) -> Self {
        binary.0
    }
}

impl Serialize for Binary {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Binary {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Strict;

        impl Visitor<'_> for Strict {
            type Value = Binary;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(BINARY)
            }

            fn visit_bytes<E>(self, data: &[u8]) -> Result<Binary, E> {
                Ok(Binary(Bytes::copy_from_slice(data)))
            }

            fn visit_byte_buf<E>(self, data: Vec<u8>) -> Result<Binary, E> {
                Ok(Binary(data.into()))
            }
        }

        deserializer.deserialize_byte_buf(Strict)
    }
}

/// Deserialises other types from a buffered value.
pub(super) struct BufferedDeserializer<E> {
    value: Value,
    error: PhantomData<fn() -> E>,
}

impl<E> BufferedDeserializer<E> {
    pub(super) const fn new(value: Value) -> Self {
        Self {
            value,
            error: PhantomData,
        }
    }
}

impl<'de, E: de::Error> IntoDeserializer<'de, E> for BufferedDeserializer<E> {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

/// Returns the fields of an object as map entries.
fn entries<E>(
    fields: BTreeMap<String, Value>,
) -> impl Iterator<Item = (String, BufferedDeserializer<E>)> {
    let entry = |(key, value)| (key, BufferedDeserializer::new(value));
    fields.into_iter().map(entry)
}

impl<'de, E: de::Error> Deserializer<'de> for BufferedDeserializer<E> {
    type Error = E;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, E> {
        match self.value {
            Value::Null => visitor.visit_unit(),
            Value::Bool(value) => visitor.visit_bool(value),
            Value::Number(number) => match (number.as_u64(), number.as_i64()) {
                (Some(value), _) => visitor.visit_u64(value),
                (None, Some(value)) => visitor.visit_i64(value),
                (None, None) => visitor.visit_f64(number.as_f64().unwrap_or(f64::NAN)),
            },
            Value::String(text) => visitor.visit_string(text),
            Value::Binary(data) => visitor.visit_byte_buf(data.into()),
            Value::Array(values) => {
                visitor.visit_seq(SeqDeserializer::new(values.into_iter().map(Self::new)))
            }
            Value::Object(fields) => visitor.visit_map(MapDeserializer::new(entries(fields))),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, E> {
        match self.value {
            Value::Null => visitor.visit_none(),
            Value::Bool(_)
            | Value::Number(_)
            | Value::String(_)
            | Value::Binary(_)
            | Value::Array(_)
            | Value::Object(_) => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, E> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, E> {
        match self.value {
            Value::String(name) => visitor.visit_enum(name.into_deserializer()),
            Value::Object(fields) => {
                let fields = MapDeserializer::new(entries(fields));
                visitor.visit_enum(MapAccessDeserializer::new(fields))
            }
            Value::Null
            | Value::Bool(_)
            | Value::Number(_)
            | Value::Binary(_)
            | Value::Array(_) => Err(E::custom("neither a string nor a map with one key")),
        }
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit
        unit_struct seq tuple tuple_struct map struct identifier ignored_any
    }
}
