//! Compression of polling responses (RFC 9110, 8.4.1): content negotiation and encoding.

use std::io;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, header};
use miniz_oxide::deflate::{compress_to_vec, compress_to_vec_zlib};

/// A supported encoding, in order of preference.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Encoding {
    Brotli,
    Gzip,
    Deflate,
}

impl Encoding {
    /// Returns the name of the encoding in headers.
    pub(crate) fn header(self) -> HeaderValue {
        HeaderValue::from_static(match self {
            Self::Brotli => "br",
            Self::Gzip => "gzip",
            Self::Deflate => "deflate",
        })
    }

    /// Returns the best of `offered` for a client with these headers: the one with the highest
    /// quality, the first of equals (RFC 9110, 12.5.3). Returns `None` if the response must not be
    /// encoded.
    pub(crate) fn choose(headers: &HeaderMap, offered: &[Self]) -> Option<Self> {
        let accepted = headers.get(header::ACCEPT_ENCODING)?.to_str().ok()?;
        Self::best(accepted, offered)
    }

    /// Returns the best of `offered` for a value of `Accept-Encoding`.
    pub(crate) fn best(accepted: &str, offered: &[Self]) -> Option<Self> {
        let mut best = None;
        for &encoding in offered {
            let quality = quality(accepted, encoding);
            if quality > best.map_or(0, |(quality, _)| quality) {
                best = Some((quality, encoding));
            }
        }
        best.map(|(_, encoding)| encoding)
    }

    /// Compresses `bytes` completely.
    pub(crate) fn compress(self, bytes: &[u8], level: u32) -> io::Result<Bytes> {
        let level = level.clamp(1, 9) as u8;
        match self {
            Self::Gzip => Ok(gzip(bytes, level)),
            Self::Deflate => Ok(compress_to_vec_zlib(bytes, level).into()),
            // Brotli is only used for files that were compressed in advance.
            Self::Brotli => Err(io::ErrorKind::Unsupported.into()),
        }
    }
}

/// Encodes one gzip member (RFC 1952), without a name or time, from an unknown system.
fn gzip(bytes: &[u8], level: u8) -> Bytes {
    let deflated = compress_to_vec(bytes, level);
    let mut member = Vec::with_capacity(deflated.len() + 18);
    member.extend_from_slice(&[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255]);
    member.extend_from_slice(&deflated);
    member.extend_from_slice(&checksum(bytes).to_le_bytes());
    // The length modulo 2^32, as RFC 1952 requires.
    member.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
    member.into()
}

/// Returns the CRC-32 of RFC 1952, 8. Compression takes many times as long, so processing single
/// bytes is fast enough.
#[expect(clippy::indexing_slicing, reason = "a byte is within 256 entries")]
fn checksum(bytes: &[u8]) -> u32 {
    let next = |crc: u32, byte: &u8| (crc >> 8) ^ TABLE[(crc as u8 ^ byte) as usize];
    !bytes.iter().fold(u32::MAX, next)
}

/// The remainders of all byte values.
#[expect(clippy::indexing_slicing, reason = "evaluated at compile time")]
static TABLE: [u32; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < table.len() {
        let mut crc = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            crc = (crc >> 1) ^ ((crc & 1) * 0xedb8_8320);
            bit += 1;
        }
        table[byte] = crc;
        byte += 1;
    }
    table
};

/// Returns the quality of an encoding for a client, in thousandths. 0 is a refusal.
fn quality(accepted: &str, encoding: Encoding) -> u32 {
    let name = encoding.header();
    let mut any = None;
    for part in accepted.split(',') {
        let mut parameters = part.split(';').map(str::trim);
        let known = parameters.next().unwrap_or_default();
        let quality = parameters
            .find_map(|parameter| parameter.strip_prefix("q="))
            .map_or(1000, thousandths);
        if known.eq_ignore_ascii_case(name.to_str().unwrap_or_default()) {
            return quality;
        }
        if known == "*" {
            any = Some(quality);
        }
    }
    any.unwrap_or(0)
}

/// Converts `0.5` to 500. An invalid number counts as a refusal.
fn thousandths(quality: &str) -> u32 {
    match quality.parse::<f32>() {
        Ok(quality) if (0.0..=1.0).contains(&quality) => (quality * 1000.0) as u32,
        Ok(_) | Err(_) => 0,
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    fn choose(accepted: &str) -> Option<Encoding> {
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT_ENCODING, accepted.parse().unwrap());
        Encoding::choose(&headers, &[Encoding::Gzip, Encoding::Deflate])
    }

    #[test]
    fn gzip_is_preferred_to_deflate_unless_the_client_differs() {
        use Encoding::{Deflate, Gzip};
        for (accepted, chosen) in [
            ("gzip, deflate", Some(Gzip)),
            ("deflate, gzip", Some(Gzip)),
            ("deflate", Some(Deflate)),
            ("GZIP;q=0.5, deflate;q=0.8", Some(Deflate)),
            ("gzip;q=0, *", Some(Deflate)),
            ("*", Some(Gzip)),
            ("br", None),
            ("identity", None),
            ("gzip;q=0", None),
            ("gzip;q=none", None),
            ("", None),
            (";;;,,q=1", None),
        ] {
            assert_eq!(choose(accepted), chosen, "{accepted}");
        }
        let nothing = Encoding::choose(&HeaderMap::new(), &[Gzip]);
        assert_eq!(nothing, None);
    }

    #[test]
    fn a_checksum_is_that_of_the_standard() {
        // The check value of CRC-32/ISO-HDLC.
        assert_eq!(checksum(b"123456789"), 0xcbf4_3926);
        assert_eq!(checksum(b""), 0);
    }

    #[test]
    fn empty_input_is_a_valid_gzip_member() {
        let gzip = Encoding::Gzip.compress(b"", 6).unwrap();
        let mut text = String::new();
        flate2::read::GzDecoder::new(&gzip[..])
            .read_to_string(&mut text)
            .unwrap();
        assert_eq!(text, "");
    }

    #[test]
    fn compressed_bytes_decompress_to_the_original() {
        let bytes = "x".repeat(10_000);
        let gzip = Encoding::Gzip.compress(bytes.as_bytes(), 6).unwrap();
        let mut text = String::new();
        flate2::read::GzDecoder::new(&gzip[..])
            .read_to_string(&mut text)
            .unwrap();
        assert_eq!(text, bytes);
        // "deflate" is the zlib format (RFC 9110, 8.4.1.2).
        let deflate = Encoding::Deflate.compress(bytes.as_bytes(), 99).unwrap();
        text.clear();
        flate2::read::ZlibDecoder::new(&deflate[..])
            .read_to_string(&mut text)
            .unwrap();
        assert_eq!(text, bytes);
        assert!(gzip.len() < 200 && deflate.len() < 200);
    }
}
