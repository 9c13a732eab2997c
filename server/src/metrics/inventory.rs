//! What the server holds in memory: the count and size of each map, queue and cache.
//!
//! Each owner reports its own parts. Reporting takes the locks of the owners, so it is done on
//! request only and not for metrics.

use std::collections::HashMap;

use serde::Serialize;

/// An owner of maps, queues or caches.
pub(crate) trait Inventoried {
    /// Adds the parts of this owner.
    fn report(&self, inventory: &mut Inventory);
}

/// The parts that the server holds.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Inventory {
    held: Vec<Held>,
}

/// One map, queue or cache.
#[derive(Debug, Serialize)]
pub(crate) struct Held {
    name: &'static str,
    /// The number of entries.
    count: u64,
    /// The size in bytes, if the owner counts it. For a map it is that of its table: what the
    /// entries refer to is not included.
    bytes: Option<u64>,
}

impl Inventory {
    /// Adds a part. `bytes` is `None` if the owner does not count them.
    pub(crate) fn add(&mut self, name: &'static str, count: u64, bytes: Option<u64>) {
        self.held.push(Held { name, count, bytes });
    }

    /// Adds a map.
    pub(crate) fn map<K, V, S>(&mut self, name: &'static str, map: &HashMap<K, V, S>) {
        self.maps(name, [(map.len(), table_bytes(map))]);
    }

    /// Adds a part with this size.
    pub(crate) fn size(&mut self, name: &'static str, size: Size) {
        self.add(name, size.count as u64, Some(size.bytes as u64));
    }

    /// Adds the shards of a map as one part, each with its number of entries and bytes.
    pub(crate) fn maps(
        &mut self,
        name: &'static str,
        shards: impl IntoIterator<Item = (usize, usize)>,
    ) {
        let (count, bytes) = shards.into_iter().fold((0, 0), |(count, bytes), shard| {
            (count + shard.0, bytes + shard.1)
        });
        self.add(name, count as u64, Some(bytes as u64));
    }
}

/// The entries of many small parts, such as those of all conversations, and their bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Size {
    pub(crate) count: usize,
    pub(crate) bytes: usize,
}

impl Size {
    /// Returns the size of a map, with the bytes of its table.
    pub(crate) fn of_map<K, V, S>(map: &HashMap<K, V, S>) -> Self {
        Self {
            count: map.len(),
            bytes: table_bytes(map),
        }
    }

    /// Returns the size of entries of this type, of which there is room for `capacity`.
    pub(crate) const fn of<T>(count: usize, capacity: usize) -> Self {
        Self {
            count,
            bytes: capacity * size_of::<T>(),
        }
    }

    /// Returns the size with the bytes of another part, which has the same entries in another form.
    pub(crate) const fn with_index(self, index: Self) -> Self {
        Self {
            count: self.count,
            bytes: self.bytes + index.bytes,
        }
    }
}

impl std::ops::AddAssign for Size {
    fn add_assign(&mut self, other: Self) {
        self.count += other.count;
        self.bytes += other.bytes;
    }
}

/// Returns the size of the table of a map. Each slot has one byte of control data.
pub(crate) fn table_bytes<K, V, S>(map: &HashMap<K, V, S>) -> usize {
    map.capacity() * (size_of::<(K, V)>() + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_map_has_its_entries_and_the_size_of_its_table() {
        let mut inventory = Inventory::default();
        let map: HashMap<u64, u64> = (0..100).map(|n| (n, n)).collect();
        inventory.map("one", &map);
        inventory.maps("shards", [(1, 10), (2, 20)]);
        inventory.add("uncounted", 3, None);
        let bytes = map.capacity() * 17;
        assert_eq!(
            serde_json::to_string(&inventory).unwrap(),
            format!(
                "{{\"held\":[{{\"name\":\"one\",\"count\":100,\"bytes\":{bytes}}},\
                 {{\"name\":\"shards\",\"count\":3,\"bytes\":30}},\
                 {{\"name\":\"uncounted\",\"count\":3,\"bytes\":null}}]}}"
            )
        );
    }
}
