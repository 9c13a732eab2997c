//! Characters of requests. Every poll is searched for a few of them, so this is done in few
//! instructions.

/// The ASCII letters, the digits and some other bytes.
pub(in crate::engine::http) struct Characters([bool; 256]);

impl Characters {
    #[expect(
        clippy::indexing_slicing,
        reason = "a constant has no other way, and cannot panic later"
    )]
    pub(in crate::engine::http) const fn alphanumeric_and(others: &[u8]) -> Self {
        let mut table = [false; 256];
        let mut byte = 0;
        while byte < table.len() {
            table[byte] = (byte as u8).is_ascii_alphanumeric();
            byte += 1;
        }
        let mut other = 0;
        while other < others.len() {
            table[others[other] as usize] = true;
            other += 1;
        }
        Self(table)
    }

    #[inline]
    pub(in crate::engine::http) fn contains(&self, byte: u8) -> bool {
        self.0.get(usize::from(byte)) == Some(&true)
    }
}

/// Splits a text at the first `byte`, which is ASCII. `str::split_once` takes three times as many
/// instructions for texts as short as those of a query.
#[inline]
pub(in crate::engine::http) fn split_at_byte(text: &str, byte: u8) -> (&str, Option<&str>) {
    let at = text.bytes().position(|each| each == byte);
    let split = at.and_then(|at| Some((text.get(..at)?, text.get(at + 1..)?)));
    split.map_or((text, None), |(before, after)| (before, Some(after)))
}
