//! Reads the arguments of an acknowledgement as one value, in the form in which they are sent.

use std::cell::Cell;

use serde::{
    Deserializer,
    de::{DeserializeOwned, DeserializeSeed, Error as _, SeqAccess, Visitor},
    forward_to_deserialize_any,
};
use serde_json::Error;
use serde_path_to_error::Track;

use super::{
    Args, ArgumentError,
    args::{tracked, value},
};

/// Reads what [`Arguments`](super::Arguments) writes: a tuple takes several arguments, every other
/// type takes the first.
pub(super) fn read<T: DeserializeOwned>(args: &Args) -> Result<T, ArgumentError> {
    let progress = Progress::default();
    match T::deserialize(Root(args, &progress)) {
        Ok(value) => return Ok(value),
        Err(_) if !progress.is_tuple.get() => return args.get(0),
        Err(_) => {}
    }
    // Tracking the path costs allocations, so only a failed value is read again with it.
    let mut track = Track::new();
    let again = value(|read| tracked(Root(args, &progress), Some(&mut track), read));
    let error = match again {
        Ok(value) => return Ok(value),
        Err(error) => error,
    };
    let index = progress.index.get();
    if index >= args.len() {
        return Err(ArgumentError::missing(index, &error));
    }
    // The path begins with the argument, which the error already names by its index.
    let path = track.path().to_string();
    let path = path.split_once(']').map_or("", |(_, inner)| inner);
    let path = path.strip_prefix('.').unwrap_or(path);
    Err(ArgumentError::new(index, path, &error))
}

/// The requests of the type so far.
#[derive(Default)]
struct Progress {
    is_tuple: Cell<bool>,
    /// The index of the current argument.
    index: Cell<usize>,
}

/// Passes the arguments to tuples only. Other types are a single argument and are read separately.
#[derive(Clone, Copy)]
struct Root<'de>(&'de Args, &'de Progress);

impl<'de> Deserializer<'de> for Root<'de> {
    type Error = Error;

    fn deserialize_tuple<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Error> {
        self.1.is_tuple.set(true);
        visitor.visit_seq(ArgumentSeq {
            root: self,
            next: 0,
        })
    }

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Error> {
        Err(Error::custom("no tuple"))
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option
        unit unit_struct newtype_struct seq tuple_struct map struct enum identifier ignored_any
    }
}

struct ArgumentSeq<'de> {
    root: Root<'de>,
    next: usize,
}

impl<'de> SeqAccess<'de> for ArgumentSeq<'de> {
    type Error = Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Error> {
        let Root(args, progress) = self.root;
        progress.index.set(self.next);
        let value = args.get_seed(self.next, seed)?;
        self.next += 1;
        Ok(Some(value))
    }
}
