//! The accepted forms of arguments and their fields.
//!
//! Other forms are refused; nothing is repaired.

use std::fmt;
use std::marker::PhantomData;

use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{self, DeserializeOwned, Deserializer, IntoDeserializer as _, MapAccess, Visitor};
use serde_json::value::RawValue;
use uuid::Uuid;

use crate::config::exact_number;

/// Deserializes an argument that must be an object. A derived implementation also accepts an array
/// of the fields.
pub(in crate::service::rules) fn object<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    struct Fields<T>(PhantomData<T>);
    impl<'de, T: Deserialize<'de>> Visitor<'de> for Fields<T> {
        type Value = T;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
            T::deserialize(MapAccessDeserializer::new(map))
        }
    }
    deserializer.deserialize_map(Fields(PhantomData))
}

/// A value that must be an object. A derived implementation also accepts an array of the fields.
#[derive(Debug)]
pub(in crate::service::rules) struct Object<T>(pub(in crate::service::rules) T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        object(deserializer).map(Self)
    }
}

/// Deserializes a list of values that must be objects.
pub(in crate::service::rules) fn objects<'de, D, T>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    let objects = Vec::<Object<T>>::deserialize(deserializer)?;
    Ok(objects.into_iter().map(|Object(value)| value).collect())
}

/// Deserializes a field that can be absent, but is not `null` unless its type accepts that.
pub(in crate::service::rules) fn present<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    T::deserialize(deserializer).map(Some)
}

/// Deserializes an enum variant from a string only. A derived enum also accepts `{"buy": null}`.
pub(crate) fn word<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: DeserializeOwned,
{
    let word = String::deserialize(deserializer)?;
    T::deserialize(word.into_deserializer())
}

/// Deserializes an argument that must be an object or absent. An absent argument equals an object
/// without fields.
pub(in crate::service::rules) fn object_or_none<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    let value = Option::<Object<T>>::deserialize(deserializer)?;
    Ok(value.map_or_else(T::default, |Object(value)| value))
}

/// Deserializes an argument that is the id of a conversation, or an object with it.
pub(super) fn id_or_object<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: From<Target>,
{
    deserializer.deserialize_any(IdOrObject).map(T::from)
}

/// A conversation named by its id or by an object.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Target {
    #[serde(deserialize_with = "hyphenated")]
    pub(super) conversation_id: Uuid,
    #[serde(default, deserialize_with = "whole_or_none")]
    pub(super) last_seq: Option<u64>,
}

struct IdOrObject;

impl<'de> Visitor<'de> for IdOrObject {
    type Value = Target;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a conversation's id, or an object with it")
    }

    fn visit_str<E: de::Error>(self, id: &str) -> Result<Target, E> {
        let conversation_id = parse(id).ok_or_else(|| E::custom(NOT_AN_ID))?;
        Ok(Target {
            conversation_id,
            last_seq: None,
        })
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Target, A::Error> {
        Target::deserialize(MapAccessDeserializer::new(map))
    }
}

/// Deserializes a UUID from its only accepted form: groups of hexadecimal digits separated by
/// hyphens. Uppercase digits are accepted, as RFC 9562 requires.
pub(super) fn hyphenated<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Uuid, D::Error> {
    struct Id;
    impl Visitor<'_> for Id {
        type Value = Uuid;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a UUID with hyphens")
        }

        fn visit_str<E: de::Error>(self, id: &str) -> Result<Uuid, E> {
            parse(id).ok_or_else(|| E::custom(NOT_AN_ID))
        }
    }
    deserializer.deserialize_str(Id)
}

pub(super) fn hyphenated_or_none<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Uuid>, D::Error> {
    #[derive(Deserialize)]
    struct Id(#[serde(deserialize_with = "hyphenated")] Uuid);
    Ok(Option::<Id>::deserialize(deserializer)?.map(|id| id.0))
}

fn parse(id: &str) -> Option<Uuid> {
    // Forms without hyphens, in braces and as a URN have other lengths.
    const LEN: usize = uuid::fmt::Hyphenated::LENGTH;
    (id.len() == LEN)
        .then(|| Uuid::try_parse(id).ok())
        .flatten()
}

const NOT_AN_ID: &str = "not a UUID with hyphens";

/// Deserializes a non-negative integer. JSON has one number type, so `50.0` is 50.
pub(crate) fn whole<'de, D: Deserializer<'de>, N: TryFrom<u64>>(
    deserializer: D,
) -> Result<N, D::Error> {
    struct Whole;
    impl Visitor<'_> for Whole {
        type Value = u64;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a non-negative integer")
        }

        fn visit_u64<E>(self, number: u64) -> Result<u64, E> {
            Ok(number)
        }

        fn visit_f64<E: de::Error>(self, number: f64) -> Result<u64, E> {
            // The bound is 2^64. Every whole double below it is a `u64`.
            if number.fract() == 0.0 && (0.0..18_446_744_073_709_551_616.0).contains(&number) {
                #[expect(
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    reason = "checked"
                )]
                return Ok(number as u64);
            }
            Err(E::invalid_type(de::Unexpected::Float(number), &self))
        }
    }
    let number = deserializer.deserialize_u64(Whole)?;
    N::try_from(number)
        .map_err(|_| de::Error::invalid_value(de::Unexpected::Unsigned(number), &Whole))
}

pub(crate) fn whole_or_none<'de, D: Deserializer<'de>, N: TryFrom<u64>>(
    deserializer: D,
) -> Result<Option<N>, D::Error> {
    struct Number<N>(N);
    impl<'de, N: TryFrom<u64>> Deserialize<'de> for Number<N> {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            whole(deserializer).map(Self)
        }
    }
    Ok(Option::<Number<N>>::deserialize(deserializer)?.map(|number| number.0))
}

/// Deserializes an integer query parameter, in each form that [`whole`] accepts.
pub(crate) fn whole_in_query<'de, D: Deserializer<'de>, N: TryFrom<u64>>(
    deserializer: D,
) -> Result<Option<N>, D::Error> {
    #[derive(Deserialize)]
    struct Number(#[serde(deserialize_with = "whole")] u64);
    let Some(text) = Option::<String>::deserialize(deserializer)? else {
        return Ok(None);
    };
    // JSON allows whitespace around a number; a query parameter must not have it.
    let is_bare = !text.contains(|c: char| c.is_ascii_whitespace());
    let number = serde_json::from_str(&text).ok().filter(|_| is_bare);
    let number = number.and_then(|Number(number)| N::try_from(number).ok());
    number.map(Some).ok_or_else(|| {
        let value = de::Unexpected::Str(&text);
        de::Error::invalid_value(value, &"a non-negative integer")
    })
}

/// Deserializes a market number. A number that a double cannot hold exactly is refused, because
/// only the sender may round it.
pub(in crate::service) fn exact<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<f64, D::Error> {
    // The text is needed because a parsed number no longer shows the lost digits.
    let number = Box::<RawValue>::deserialize(deserializer)?;
    let text = number.get();
    match exact_number(text) {
        Some(number) => Ok(number),
        None if text.starts_with(|c: char| c == '-' || c.is_ascii_digit()) => {
            Err(de::Error::custom(NOT_EXACT))
        }
        None => Err(de::Error::custom("not a number")),
    }
}

/// Deserializes an optional market number.
pub(in crate::service) fn exact_or_none<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<f64>, D::Error> {
    #[derive(Deserialize)]
    struct Exact(#[serde(deserialize_with = "exact")] f64);
    Ok(Option::<Exact>::deserialize(deserializer)?.map(|number| number.0))
}

const NOT_EXACT: &str =
    "the number has more digits than a double holds, and would be rounded: send a rounded number";
