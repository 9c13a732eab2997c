//! Placeholders: the objects in the JSON that refer to attachments, and how often each is referred
//! to. What types receive for them is the task of the parent module.

use std::{borrow::Cow, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{self, DeserializeSeed, MapAccess, SeqAccess, Visitor},
};

use super::super::Args;
use crate::DecodeError;

pub(in crate::socket) const PLACEHOLDER: &str = "_placeholder";
pub(in crate::socket) const NUM: &str = "num";

/// Checks that every placeholder refers to an attachment and that there are enough placeholders.
///
/// Returns the number of placeholders for each attachment.
pub(in crate::socket) fn count_placeholders(
    args: &Args,
    attachments: usize,
) -> Result<Box<[usize]>, DecodeError> {
    let mut counts = vec![0; attachments].into_boxed_slice();
    for json in args {
        // The scan has refused values that are nested too deep, so this recursion is bounded.
        let mut deserializer = serde_json::Deserializer::from_slice(json);
        PlaceholderCounter(&mut counts)
            .deserialize(&mut deserializer)
            .map_err(|_| DecodeError::IllegalAttachments)?;
    }
    if counts.iter().sum::<usize>() < attachments {
        Err(DecodeError::IllegalAttachments)
    } else {
        Ok(counts)
    }
}

/// Searches a value for placeholders and counts them for each attachment.
pub(in crate::socket) struct PlaceholderCounter<'a>(pub(in crate::socket) &'a mut [usize]);

/// The relevant part of an inspected value.
#[derive(PartialEq)]
pub(in crate::socket) enum InspectedValue {
    True,
    Number(u64),
    Other,
}

impl<'de> DeserializeSeed<'de> for PlaceholderCounter<'_> {
    type Value = InspectedValue;

    fn deserialize<D: Deserializer<'de>>(
        self,
        deserializer: D,
    ) -> Result<InspectedValue, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for PlaceholderCounter<'_> {
    type Value = InspectedValue;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<InspectedValue, E> {
        Ok(if value {
            InspectedValue::True
        } else {
            InspectedValue::Other
        })
    }

    fn visit_u64<E>(self, value: u64) -> Result<InspectedValue, E> {
        Ok(InspectedValue::Number(value))
    }

    fn visit_i64<E>(self, _: i64) -> Result<InspectedValue, E> {
        Ok(InspectedValue::Other)
    }

    fn visit_f64<E>(self, _: f64) -> Result<InspectedValue, E> {
        Ok(InspectedValue::Other)
    }

    fn visit_str<E>(self, _: &str) -> Result<InspectedValue, E> {
        Ok(InspectedValue::Other)
    }

    fn visit_unit<E>(self) -> Result<InspectedValue, E> {
        Ok(InspectedValue::Other)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<InspectedValue, A::Error> {
        while seq.next_element_seed(PlaceholderCounter(self.0))?.is_some() {}
        Ok(InspectedValue::Other)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<InspectedValue, A::Error> {
        let mut is_placeholder = false;
        let mut num = InspectedValue::Other;
        let mut entries = 0;
        while let Some(Key(key)) = map.next_key()? {
            let value = map.next_value_seed(PlaceholderCounter(self.0))?;
            entries += 1;
            match &*key {
                PLACEHOLDER => is_placeholder |= value == InspectedValue::True,
                NUM => num = value,
                _ => {}
            }
        }
        if is_placeholder {
            let number = match num {
                // Other entries of a placeholder would be lost when its attachment replaces it.
                InspectedValue::Number(number) if entries == 2 => usize::try_from(number).ok(),
                InspectedValue::Number(_) | InspectedValue::True | InspectedValue::Other => None,
            };
            let count = number.and_then(|number| self.0.get_mut(number));
            *count.ok_or_else(|| de::Error::custom("no such attachment"))? += 1;
        }
        Ok(InspectedValue::Other)
    }
}

/// The key of an entry of an object.
#[derive(Deserialize)]
pub(in crate::socket) struct Key<'a>(#[serde(borrow)] pub(in crate::socket) Cow<'a, str>);
