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
