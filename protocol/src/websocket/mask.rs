//! Masking of payloads (RFC 6455 section 5.3), a machine word at a time.
//!
//! Masking is its own inverse, so the same functions mask and unmask.

/// The masking key of a frame. Zeros mean no mask, because they change nothing.
pub(super) type Key = [u8; 4];

/// Masks `data` in place. `data` begins `offset` bytes after the start of the payload.
pub fn apply(data: &mut [u8], key: [u8; 4], offset: usize) {
    let key = rotate(key, offset);
    let word = u32::from_ne_bytes(key);
    let (words, tail) = data.as_chunks_mut::<4>();
    for bytes in words {
        *bytes = (u32::from_ne_bytes(*bytes) ^ word).to_ne_bytes();
    }
    for (byte, key) in tail.iter_mut().zip(key) {
        *byte ^= key;
    }
}

/// Returns the key for the bytes that follow `offset` bytes of payload.
#[must_use]
pub const fn rotate(key: [u8; 4], offset: usize) -> [u8; 4] {
    let bits = 8 * (offset % 4) as u32;
    u32::from_be_bytes(key).rotate_left(bits).to_be_bytes()
}

/// Appends `data` masked with `key`.
///
/// The data is copied in blocks, so that each block is still in the nearest cache when it is
/// masked.
#[inline]
pub(super) fn append(out: &mut Vec<u8>, data: &[u8], key: Key) {
    if key == [0; 4] {
        return out.extend_from_slice(data);
    }
    for block in data.chunks(BLOCK) {
        let start = out.len();
        out.extend_from_slice(block);
        apply(out.get_mut(start..).unwrap_or_default(), key, 0);
    }
}

/// The block size in bytes. It is a multiple of four, so that every block begins with the first
/// byte of the key.
const BLOCK: usize = 4096;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn naive(data: &[u8], key: [u8; 4], offset: usize) -> Vec<u8> {
        data.iter()
            .enumerate()
            .map(|(i, byte)| byte ^ key[(i + offset) % 4])
            .collect()
    }

    #[test]
    fn the_example_of_the_rfc() {
        let mut data = *b"\x7f\x9f\x4d\x51\x58";
        apply(&mut data, [0x37, 0xfa, 0x21, 0x3d], 0);
        assert_eq!(&data, b"Hello");
    }

    proptest! {
        #[test]
        fn masking_matches_the_definition(data: Vec<u8>, key: [u8; 4], offset in 0_usize..9) {
            let mut masked = data.clone();
            apply(&mut masked, key, offset);
            prop_assert_eq!(&masked, &naive(&data, key, offset));
            apply(&mut masked, key, offset);
            prop_assert_eq!(masked, data);
        }

        #[test]
        fn masking_in_pieces_equals_masking_the_whole(data: Vec<u8>, key: [u8; 4], cut: prop::sample::Index) {
            let cut = cut.index(data.len() + 1);
            let mut pieces = data.clone();
            let (left, right) = pieces.split_at_mut(cut);
            apply(left, key, 0);
            apply(right, rotate(key, cut), 0);
            prop_assert_eq!(pieces, naive(&data, key, 0));
        }

        #[test]
        fn appending_crosses_blocks(extra in 0_usize..20, blocks in 0_usize..3, key: [u8; 4]) {
            let data: Vec<u8> = (0..blocks * BLOCK + extra).map(|i| i as u8).collect();
            let mut out = vec![7];
            append(&mut out, &data, key);
            prop_assert_eq!(&out[1..], naive(&data, key, 0));
        }
    }
}
