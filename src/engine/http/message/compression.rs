//! Compression of polling responses (RFC 9110, 8.4.1): content negotiation and encoding.
//!
//! The task of the request compresses, and above 64 KiB a blocking thread. Drivers and flushers
//! never compress, because each of them serves many clients.

use std::io::{self, Read as _};

use bytes::Bytes;
use flate2::{Compress, Compression, bufread::ZlibEncoder};
use http::{HeaderMap, HeaderValue, header};

/// An encoding. Files can have all of them, responses to polling those of
/// [`OF_RESPONSES`](Encoding::OF_RESPONSES).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Encoding {
    Zstd,
    Brotli,
    Gzip,
    Deflate,
}

impl Encoding {
    /// The encodings of polling responses, in order of preference.
    pub(crate) const OF_RESPONSES: &[Self] = &[Self::Gzip, Self::Deflate];

    /// Returns the name of the encoding in headers.
    pub(crate) fn header(self) -> HeaderValue {
        HeaderValue::from_static(match self {
            Self::Zstd => "zstd",
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

    /// Compresses `bytes` completely. `level` is 1 (fast) to 9 (small).
    pub(crate) fn compress(self, bytes: &[u8], level: u32) -> io::Result<Bytes> {
        let level = Compression::new(level.clamp(1, 9));
        let compress = match self {
            Self::Gzip => Compress::new_gzip(level, WINDOW),
            // "deflate" is the zlib format (RFC 9110, 8.4.1.2).
            Self::Deflate => Compress::new_with_window_bits(level, true, WINDOW),
            // Only files that were compressed in advance use them.
            Self::Brotli | Self::Zstd => return Err(io::ErrorKind::Unsupported.into()),
        };
        let mut stream = Vec::with_capacity(bytes.len() / 4);
        ZlibEncoder::new_with_compress(bytes, compress).read_to_end(&mut stream)?;
        Ok(stream.into())
    }
}

/// The window of gzip and zlib, as a power of two.
const WINDOW: u8 = 15;

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
    use super::*;

    fn choose(accepted: &str) -> Option<Encoding> {
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT_ENCODING, accepted.parse().unwrap());
        Encoding::choose(&headers, Encoding::OF_RESPONSES)
    }

    fn decompress(encoding: Encoding, bytes: &[u8]) -> Vec<u8> {
        let mut plain = Vec::new();
        match encoding {
            Encoding::Gzip => flate2::read::GzDecoder::new(bytes).read_to_end(&mut plain),
            // "deflate" is the zlib format (RFC 9110, 8.4.1.2).
            Encoding::Deflate => flate2::read::ZlibDecoder::new(bytes).read_to_end(&mut plain),
            Encoding::Zstd | Encoding::Brotli => panic!("no encoding of responses"),
        }
        .unwrap();
        plain
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
            ("gzip, deflate, br, zstd", Some(Gzip)),
            ("br, zstd", None),
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
    fn gzip_has_no_name_and_no_time() {
        let member = Encoding::Gzip.compress(b"123456789", 6).unwrap();
        // The header of RFC 1952, 2.3, up to the time, then the check value of CRC-32 and the
        // length.
        assert_eq!(member[..8], [0x1f, 0x8b, 8, 0, 0, 0, 0, 0]);
        assert_eq!(
            member[member.len() - 8..],
            [0x26, 0x39, 0xf4, 0xcb, 9, 0, 0, 0]
        );
    }

    #[test]
    fn compressed_bytes_decompress_to_the_original_at_every_level() {
        let mut random = 1_u32;
        let mut noise = || {
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (random >> 24) as u8
        };
        let inputs = [
            Vec::new(),
            b"x".to_vec(),
            "x".repeat(10_000).into_bytes(),
            (0..3000).map(|_| noise()).collect(),
            (0..300_000).map(|_| noise() % 16).collect(),
        ];
        for &encoding in Encoding::OF_RESPONSES {
            for level in [0, 1, 4, 6, 9, 99] {
                for bytes in &inputs {
                    let smaller = encoding.compress(bytes, level).unwrap();
                    assert!(
                        decompress(encoding, &smaller) == *bytes,
                        "{encoding:?} {level}"
                    );
                }
            }
            let bytes = "x".repeat(10_000);
            let smaller = encoding.compress(bytes.as_bytes(), 6).unwrap();
            assert!(smaller.len() < 200, "{encoding:?} {}", smaller.len());
        }
    }
}
