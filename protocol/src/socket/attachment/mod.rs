//! Supplies attachments, the binary values that placeholder objects in the JSON refer to, to the
//! types that request them.

pub(super) mod placeholders;

use std::{borrow::Cow, collections::VecDeque, fmt, marker::PhantomData};

use bytes::Bytes;
use serde::{
    Deserialize, Deserializer,
    de::{
        self, DeserializeSeed, EnumAccess, IgnoredAny, MapAccess, SeqAccess, VariantAccess,
        Visitor, value::MapDeserializer,
    },
};
use serde_json::value::RawValue;

use self::placeholders::{Key, NUM, PLACEHOLDER, PlaceholderCounter};
use super::{Value, value::BufferedDeserializer};

/// A deserialiser that supplies an attachment if bytes or any type are requested.
///
/// Types that inspect the value first request any type: internally tagged and untagged enums, and
/// structs with flattened fields.
///
/// `ANY` is whether the packet has any. Most have none, and each type of an argument is compiled
/// for both.
pub(super) struct WithAttachments<'a, D, const ANY: bool> {
    inner: D,
    attachments: &'a [Bytes],
}

impl<D> WithAttachments<'_, D, false> {
    pub(super) const fn none(inner: D) -> Self {
        Self {
            inner,
            attachments: &[],
        }
    }
}

impl<'a, D> WithAttachments<'a, D, true> {
    pub(super) const fn new(inner: D, attachments: &'a [Bytes]) -> Self {
        Self { inner, attachments }
    }
}

impl<'a, D, const ANY: bool> WithAttachments<'a, D, ANY> {
    /// Wraps a part of the same packet.
    const fn part<P>(inner: P, attachments: &'a [Bytes]) -> WithAttachments<'a, P, ANY> {
        WithAttachments { inner, attachments }
    }
}

macro_rules! forward {
    ($($method:ident($($name:ident: $type:ty),*);)*) => {
        $(fn $method<V: Visitor<'de>>(self, $($name: $type,)* visitor: V) -> Result<V::Value, D::Error> {
            self.inner.$method($($name,)* Self::part(visitor, self.attachments))
        })*
    };
}

impl<'de, D: Deserializer<'de>, const ANY: bool> Deserializer<'de> for WithAttachments<'_, D, ANY> {
    type Error = D::Error;

    fn deserialize_bytes<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        self.deserialize_byte_buf(visitor)
    }

    fn deserialize_byte_buf<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        self.inner.deserialize_map(Placeholder {
            visitor,
            attachments: self.attachments,
            marker: PhantomData,
        })
    }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        let attachments = self.attachments;
        if !ANY || attachments.is_empty() {
            return self.inner.deserialize_any(visitor);
        }
        self.inner
            .deserialize_any(AnyVisitor(WithAttachments::new(visitor, attachments)))
    }

    // An object must not be read from an attachment: its placeholder would pass for an object whose
    // fields are all optional.
    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        let attachments = self.attachments;
        if !ANY || attachments.is_empty() {
            return self.inner.deserialize_map(Self::part(visitor, attachments));
        }
        self.inner
            .deserialize_map(AnyVisitor(WithAttachments::new(visitor, attachments)))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        let attachments = self.attachments;
        if !ANY || attachments.is_empty() {
            let visitor = Self::part(visitor, attachments);
            return self.inner.deserialize_struct(name, fields, visitor);
        }
        let visitor = AnyVisitor(WithAttachments::new(visitor, attachments));
        self.inner.deserialize_struct(name, fields, visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        let attachments = self.attachments;
        if !ANY || name != RAW_VALUE || attachments.is_empty() {
            let visitor = Self::part(visitor, attachments);
            return self.inner.deserialize_newtype_struct(name, visitor);
        }
        let raw = Box::<RawValue>::deserialize(self.inner)?;
        let mut counts = vec![0; attachments.len()];
        let walked = PlaceholderCounter(&mut counts)
            .deserialize(&mut serde_json::Deserializer::from_str(raw.get()))
            .is_ok();
        if !walked || counts.iter().any(|&count| count > 0) {
            // Without its attachments, a placeholder would have another meaning or none.
            return Err(de::Error::invalid_type(
                de::Unexpected::Other(BINARY),
                &visitor,
            ));
        }
        visitor.visit_map(MapDeserializer::new(std::iter::once((
            RAW_VALUE,
            raw.get(),
        ))))
    }

    forward! {
        deserialize_bool();
        deserialize_i8();
        deserialize_i16();
        deserialize_i32();
        deserialize_i64();
        deserialize_i128();
        deserialize_u8();
        deserialize_u16();
        deserialize_u32();
        deserialize_u64();
        deserialize_u128();
        deserialize_f32();
        deserialize_f64();
        deserialize_char();
        deserialize_str();
        deserialize_string();
        deserialize_option();
        deserialize_unit();
        deserialize_unit_struct(name: &'static str);
        deserialize_seq();
        deserialize_tuple(length: usize);
        deserialize_tuple_struct(name: &'static str, length: usize);
        deserialize_enum(name: &'static str, variants: &'static [&'static str]);
        deserialize_identifier();
        deserialize_ignored_any();
    }

    fn is_human_readable(&self) -> bool {
        self.inner.is_human_readable()
    }
}

macro_rules! forward_visit {
    ($inner:tt $($method:ident($type:ty);)*) => {
        $(fn $method<E: de::Error>(self, value: $type) -> Result<V::Value, E> {
            self.$inner.$method(value)
        })*
    };
}

impl<'de, V: Visitor<'de>, const ANY: bool> Visitor<'de> for WithAttachments<'_, V, ANY> {
    type Value = V::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.expecting(f)
    }

    forward_visit! { inner
        visit_bool(bool);
        visit_i8(i8);
        visit_i16(i16);
        visit_i32(i32);
        visit_i64(i64);
        visit_i128(i128);
        visit_u8(u8);
        visit_u16(u16);
        visit_u32(u32);
        visit_u64(u64);
        visit_u128(u128);
        visit_f32(f32);
        visit_f64(f64);
        visit_char(char);
        visit_str(&str);
        visit_borrowed_str(&'de str);
        visit_string(String);
        visit_bytes(&[u8]);
        visit_borrowed_bytes(&'de [u8]);
        visit_byte_buf(Vec<u8>);
    }

    fn visit_none<E: de::Error>(self) -> Result<V::Value, E> {
        self.inner.visit_none()
    }

    fn visit_unit<E: de::Error>(self) -> Result<V::Value, E> {
        self.inner.visit_unit()
    }

    fn visit_some<D: Deserializer<'de>>(self, inner: D) -> Result<V::Value, D::Error> {
        self.inner.visit_some(Self::part(inner, self.attachments))
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, inner: D) -> Result<V::Value, D::Error> {
        self.inner
            .visit_newtype_struct(Self::part(inner, self.attachments))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, inner: A) -> Result<V::Value, A::Error> {
        self.inner.visit_seq(Self::part(inner, self.attachments))
    }

    fn visit_map<A: MapAccess<'de>>(self, inner: A) -> Result<V::Value, A::Error> {
        self.inner.visit_map(Self::part(inner, self.attachments))
    }

    fn visit_enum<A: EnumAccess<'de>>(self, inner: A) -> Result<V::Value, A::Error> {
        self.inner.visit_enum(Self::part(inner, self.attachments))
    }
}

impl<'de, T: DeserializeSeed<'de>, const ANY: bool> DeserializeSeed<'de>
    for WithAttachments<'_, T, ANY>
{
    type Value = T::Value;

    fn deserialize<D: Deserializer<'de>>(self, inner: D) -> Result<T::Value, D::Error> {
        self.inner.deserialize(Self::part(inner, self.attachments))
    }
}

impl<'de, A: SeqAccess<'de>, const ANY: bool> SeqAccess<'de> for WithAttachments<'_, A, ANY> {
    type Error = A::Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, A::Error> {
        self.inner
            .next_element_seed(Self::part(seed, self.attachments))
    }

    fn size_hint(&self) -> Option<usize> {
        self.inner.size_hint()
    }
}

impl<'de, A: MapAccess<'de>, const ANY: bool> MapAccess<'de> for WithAttachments<'_, A, ANY> {
    type Error = A::Error;

    fn next_key_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, A::Error> {
        self.inner.next_key_seed(seed)
    }

    fn next_value_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value, A::Error> {
        self.inner
            .next_value_seed(Self::part(seed, self.attachments))
    }

    fn size_hint(&self) -> Option<usize> {
        self.inner.size_hint()
    }
}

impl<'de, 'a, A: EnumAccess<'de>, const ANY: bool> EnumAccess<'de> for WithAttachments<'a, A, ANY> {
    type Error = A::Error;
    type Variant = WithAttachments<'a, A::Variant, ANY>;

    fn variant_seed<T: DeserializeSeed<'de>>(
        self,
        seed: T,
    ) -> Result<(T::Value, Self::Variant), A::Error> {
        let (value, variant) = self.inner.variant_seed(seed)?;
        Ok((value, Self::part(variant, self.attachments)))
    }
}

impl<'de, A: VariantAccess<'de>, const ANY: bool> VariantAccess<'de>
    for WithAttachments<'_, A, ANY>
{
    type Error = A::Error;

    fn unit_variant(self) -> Result<(), A::Error> {
        self.inner.unit_variant()
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, A::Error> {
        self.inner
            .newtype_variant_seed(Self::part(seed, self.attachments))
    }

    fn tuple_variant<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, A::Error> {
        self.inner
            .tuple_variant(len, Self::part(visitor, self.attachments))
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, A::Error> {
        self.inner
            .struct_variant(fields, Self::part(visitor, self.attachments))
    }
}

/// A visitor that accepts anything, and replaces placeholder objects by their attachments.
struct AnyVisitor<'a, V>(WithAttachments<'a, V, true>);

impl<'de, V: Visitor<'de>> Visitor<'de> for AnyVisitor<'_, V> {
    type Value = V::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.inner.expecting(f)
    }

    forward_visit! { 0
        visit_bool(bool);
        visit_i64(i64);
        visit_i128(i128);
        visit_u64(u64);
        visit_u128(u128);
        visit_f64(f64);
        visit_str(&str);
        visit_borrowed_str(&'de str);
        visit_string(String);
    }

    fn visit_unit<E: de::Error>(self) -> Result<V::Value, E> {
        self.0.visit_unit()
    }

    fn visit_seq<A: SeqAccess<'de>>(self, inner: A) -> Result<V::Value, A::Error> {
        self.0.visit_seq(inner)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut inner: A) -> Result<V::Value, A::Error> {
        // A placeholder has exactly two entries, in any order. An object of the application may
        // begin in the same way.
        let mut ahead = VecDeque::new();
        while ahead.len() < 2 {
            let Some(Key(key)) = inner.next_key()? else {
                break;
            };
            if !matches!(&*key, PLACEHOLDER | NUM) {
                ahead.push_back((key, None));
                break;
            }
            let value: Value =
                inner.next_value_seed(WithAttachments::new(PhantomData, self.0.attachments))?;
            ahead.push_back((key, Some(value)));
        }
        match attachment(&ahead, self.0.attachments) {
            Some(data) => self.0.inner.visit_byte_buf(data.to_vec()),
            None => self.0.inner.visit_map(BufferedMap {
                ahead,
                value: None,
                rest: WithAttachments::new(inner, self.0.attachments),
            }),
        }
    }
}

/// Returns the attachment that an object with these entries refers to.
fn attachment<'a>(
    entries: &VecDeque<(Cow<'_, str>, Option<Value>)>,
    attachments: &'a [Bytes],
) -> Option<&'a Bytes> {
    let entry = |name| {
        let found = entries.iter().find(|(key, _)| key == name);
        found.and_then(|(_, value)| value.as_ref())
    };
    match (entry(PLACEHOLDER), entry(NUM)) {
        (Some(Value::Bool(true)), Some(Value::Number(number))) => {
            attachments.get(usize::try_from(number.as_u64()?).ok()?)
        }
        _ => None,
    }
}

/// A map whose first entries were read ahead; the value of the last of them may be unread.
struct BufferedMap<'de, A> {
    ahead: VecDeque<(Cow<'de, str>, Option<Value>)>,
    value: Option<Value>,
    rest: A,
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for BufferedMap<'de, A> {
    type Error = A::Error;

    fn next_key_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, A::Error> {
        match self.ahead.pop_front() {
            Some((key, value)) => {
                self.value = value;
                // Keys may be numbers, which JSON writes as text.
                let entry = (key.into_owned(), serde_json::Value::Null);
                let object = serde_json::Value::Object([entry].into_iter().collect());
                let key = object.deserialize_map(FirstKey(seed));
                key.map(Some).map_err(de::Error::custom)
            }
            None => self.rest.next_key_seed(seed),
        }
    }

    fn next_value_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value, A::Error> {
        match self.value.take() {
            Some(value) => seed.deserialize(BufferedDeserializer::new(value)),
            None => self.rest.next_value_seed(seed),
        }
    }
}

/// Reads the first key of an object like `serde_json`.
struct FirstKey<T>(T);

impl<'de, T: DeserializeSeed<'de>> Visitor<'de> for FirstKey<T> {
    type Value = T::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with a key")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<T::Value, A::Error> {
        let key = map.next_key_seed(self.0)?;
        key.ok_or_else(|| de::Error::custom("no key"))
    }
}

/// Reads a placeholder object and visits its attachment.
struct Placeholder<'a, 'de, V> {
    visitor: V,
    attachments: &'a [Bytes],
    marker: PhantomData<&'de ()>,
}

impl<'de, V: Visitor<'de>> Visitor<'de> for Placeholder<'_, 'de, V> {
    type Value = V::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(BINARY)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<V::Value, A::Error> {
        let mut is_placeholder = false;
        let mut num = None;
        while let Some(Key(key)) = map.next_key()? {
            match &*key {
                PLACEHOLDER => is_placeholder = map.next_value()?,
                NUM => num = Some(map.next_value::<usize>()?),
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        match num.and_then(|number| self.attachments.get(number)) {
            // Each use of an attachment copies it, so the decoder counts an attachment as often as
            // placeholders refer to it.
            Some(data) if is_placeholder => self.visitor.visit_byte_buf(data.to_vec()),
            Some(_) | None => Err(de::Error::invalid_type(de::Unexpected::Map, &self)),
        }
    }
}

/// The name of bytes in errors.
pub(super) const BINARY: &str = "binary";
/// The name of `RawValue` in serde's data model.
pub(super) const RAW_VALUE: &str = "$serde_json::private::RawValue";
