//! The PROXY protocol, versions 1 and 2: a header that load balancers send before the client's data
//! (<https://www.haproxy.org/download/3.2/doc/proxy-protocol.txt>).
//!
//! A [`Header`] is read in pieces. [`Header::next_read`] returns how many bytes to read next, so
//! that no bytes of the client are consumed.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The first bytes of version 2.
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// The first bytes of version 1.
const PREFIX: &[u8; 6] = b"PROXY ";
/// Maximum length of a version 1 header, in bytes (§2.1).
const MAX_LINE: usize = 107;
/// Length of a version 2 header before the addresses, in bytes.
const FIXED: usize = 16;
/// Maximum length of addresses and additional fields, in bytes. Load balancers send a few dozen
/// bytes. Client certificates would not fit, but nothing here reads them.
const MAX_FIELDS: usize = 2048;

/// A partially read header.
#[derive(Debug, Default)]
pub(crate) struct Header {
    bytes: Vec<u8>,
}

/// The error for bytes that are not a valid PROXY protocol header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Malformed;

/// The source that a header specifies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// The client whose connection the load balancer accepted.
    Client(SocketAddr),
    /// The load balancer itself, or a client that it does not identify.
    Peer,
}

/// The next bytes to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NextRead {
    /// This number of bytes, all of which belong to the header.
    Exactly(usize),
    /// Available bytes, at most this many, up to and including the first line feed.
    Line(usize),
    /// Nothing; the header is complete.
    Nothing,
}

impl Header {
    /// Returns what to read next.
    ///
    /// # Errors
    ///
    /// If the bytes read so far cannot be a header.
    pub(crate) fn next_read(&self) -> Result<NextRead, Malformed> {
        let read = self.bytes.len();
        if read < SIGNATURE.len() {
            // The shortest version 1 header has 15 bytes, so reading up to the signature's length
            // never exceeds either version.
            let begins = self.begins(SIGNATURE) || self.begins(PREFIX);
            return if begins {
                Ok(NextRead::Exactly(SIGNATURE.len() - read))
            } else {
                Err(Malformed)
            };
        }
        if self.bytes.starts_with(SIGNATURE) {
            if read < FIXED {
                return Ok(NextRead::Exactly(FIXED - read));
            }
            let fields = self.fields_len();
            if fields > MAX_FIELDS {
                return Err(Malformed);
            }
            // No more was read than requested, so this does not underflow.
            return Ok(match FIXED + fields - read {
                0 => NextRead::Nothing,
                lacking => NextRead::Exactly(lacking),
            });
        }
        if !self.bytes.starts_with(PREFIX) {
            return Err(Malformed);
        }
        match self.bytes.last() {
            Some(b'\n') => Ok(NextRead::Nothing),
            _ if read < MAX_LINE => Ok(NextRead::Line(MAX_LINE - read)),
            _ => Err(Malformed),
        }
    }

    /// Appends bytes that were read.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Parses the complete header.
    ///
    /// # Errors
    ///
    /// If the header is invalid.
    pub(crate) fn origin(&self) -> Result<Origin, Malformed> {
        if self.bytes.starts_with(SIGNATURE) {
            self.binary().ok_or(Malformed)
        } else {
            line(&self.bytes).ok_or(Malformed)
        }
    }

    fn begins(&self, with: &[u8]) -> bool {
        let common = self.bytes.len().min(with.len());
        self.bytes.get(..common) == with.get(..common)
    }

    fn fields_len(&self) -> usize {
        match self.bytes.get(14..FIXED) {
            Some([high, low]) => usize::from(u16::from_be_bytes([*high, *low])),
            _ => 0,
        }
    }

    /// Parses a version 2 header (§2.2).
    fn binary(&self) -> Option<Origin> {
        let (command, family) = (*self.bytes.get(12)?, *self.bytes.get(13)?);
        match command {
            0x20 => return Some(Origin::Peer), // LOCAL: health checks of the load balancer.
            0x21 => {}
            _ => return None,
        }
        let fields = self.bytes.get(FIXED..)?;
        match family >> 4 {
            0x1 => {
                let source: [u8; 4] = fields.get(..4)?.try_into().ok()?;
                let port: [u8; 2] = fields.get(8..10)?.try_into().ok()?;
                let address = IpAddr::V4(Ipv4Addr::from(source));
                Some(Origin::Client(SocketAddr::new(
                    address,
                    u16::from_be_bytes(port),
                )))
            }
            0x2 => {
                let source: [u8; 16] = fields.get(..16)?.try_into().ok()?;
                let port: [u8; 2] = fields.get(32..34)?.try_into().ok()?;
                let address = IpAddr::V6(Ipv6Addr::from(source)).to_canonical();
                Some(Origin::Client(SocketAddr::new(
                    address,
                    u16::from_be_bytes(port),
                )))
            }
            // The family is unspecified, or the source is a Unix socket.
            0x0 | 0x3 => Some(Origin::Peer),
            _ => None,
        }
    }
}

/// Parses a version 1 header (§2.1).
fn line(bytes: &[u8]) -> Option<Origin> {
    let line = std::str::from_utf8(bytes).ok()?.strip_suffix("\r\n")?;
    let mut words = line.strip_prefix("PROXY ")?.split(' ');
    let family = words.next()?;
    if family == "UNKNOWN" {
        return Some(Origin::Peer);
    }
    let source: IpAddr = words.next()?.parse().ok()?;
    let destination: IpAddr = words.next()?.parse().ok()?;
    let port: u16 = number(words.next()?)?;
    let _: u16 = number(words.next()?)?;
    let is_known = match family {
        "TCP4" => source.is_ipv4() && destination.is_ipv4(),
        "TCP6" => source.is_ipv6() && destination.is_ipv6(),
        _ => false,
    };
    let origin = Origin::Client(SocketAddr::new(source.to_canonical(), port));
    (is_known && words.next().is_none()).then_some(origin)
}

fn number(digits: &str) -> Option<u16> {
    let is_number = digits.bytes().all(|byte| byte.is_ascii_digit());
    digits.parse().ok().filter(|_| is_number)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads a header from the start of `input` as a listener does; returns it with the remaining
    /// bytes.
    fn read(mut input: &[u8]) -> Result<(Origin, &[u8]), Malformed> {
        let mut header = Header::default();
        loop {
            let take = match header.next_read()? {
                NextRead::Nothing => return Ok((header.origin()?, input)),
                NextRead::Exactly(count) => count.min(input.len()),
                NextRead::Line(most) => {
                    let end = input.iter().position(|byte| *byte == b'\n');
                    end.map_or(input.len(), |end| end + 1).min(most)
                }
            };
            assert!(take > 0, "more bytes are requested than exist");
            header.push(&input[..take]);
            input = &input[take..];
        }
    }

    fn client(address: &str) -> Origin {
        Origin::Client(address.parse().unwrap())
    }

    fn v2(command: u8, family: u8, fields: &[u8]) -> Vec<u8> {
        let mut bytes = SIGNATURE.to_vec();
        bytes.extend([command, family]);
        bytes.extend(u16::try_from(fields.len()).unwrap().to_be_bytes());
        bytes.extend(fields);
        bytes
    }

    #[test]
    fn version_1_names_the_client_and_preserves_its_bytes() {
        for (line, expected) in [
            (
                "PROXY TCP4 203.0.113.9 192.0.2.1 4711 443\r\n",
                client("203.0.113.9:4711"),
            ),
            (
                "PROXY TCP6 2001:db8::9 2001:db8::1 4711 443\r\n",
                client("[2001:db8::9]:4711"),
            ),
            ("PROXY UNKNOWN\r\n", Origin::Peer),
            (
                "PROXY UNKNOWN ffff::1 ffff::2 65535 65535\r\n",
                Origin::Peer,
            ),
        ] {
            let input = format!("{line}GET / HTTP/1.1\r\n");
            let rest = &b"GET / HTTP/1.1\r\n"[..];
            assert_eq!(read(input.as_bytes()), Ok((expected, rest)), "{line}");
        }
    }

    #[test]
    fn version_2_names_the_client_and_preserves_its_bytes() {
        let v4 = [203, 0, 113, 9, 192, 0, 2, 1, 0x12, 0x67, 0x01, 0xbb];
        let mut v6 = [0; 36];
        v6[..16].copy_from_slice(&"2001:db8::9".parse::<Ipv6Addr>().unwrap().octets());
        v6[32..34].copy_from_slice(&4711_u16.to_be_bytes());
        let mut with_more = v4.to_vec();
        with_more.extend([0x04, 0x00, 0x02, 0xaa, 0xbb]);
        for (header, expected) in [
            (v2(0x21, 0x11, &v4), client("203.0.113.9:4711")),
            (v2(0x21, 0x11, &with_more), client("203.0.113.9:4711")),
            (v2(0x21, 0x21, &v6), client("[2001:db8::9]:4711")),
            (v2(0x20, 0x00, &[]), Origin::Peer),
            (v2(0x20, 0x11, &v4), Origin::Peer),
            (v2(0x21, 0x00, &[]), Origin::Peer),
            (v2(0x21, 0x31, &[0; 216]), Origin::Peer),
        ] {
            let mut input = header.clone();
            input.extend(b"\x16\x03\x01");
            let rest = &b"\x16\x03\x01"[..];
            assert_eq!(read(&input), Ok((expected, rest)), "{header:?}");
        }
    }

    #[test]
    fn invalid_headers_are_refused() {
        let long = format!("PROXY UNKNOWN {}\r\n", "x".repeat(100));
        let lines = [
            "GET / HTTP/1.1\r\nHost: x\r\n",
            "PROXY TCP4 203.0.113.9 192.0.2.1 4711\r\n",
            "PROXY TCP4 203.0.113.9 192.0.2.1 4711 443 1\r\n",
            "PROXY TCP4 203.0.113.9 192.0.2.1 4711 443\n",
            "PROXY TCP4 203.0.113.9 192.0.2.1 65536 443\r\n",
            "PROXY TCP4 203.0.113.9 192.0.2.1 +471 443\r\n",
            "PROXY TCP4 2001:db8::9 2001:db8::1 4711 443\r\n",
            "PROXY TCP6 203.0.113.9 192.0.2.1 4711 443\r\n",
            "PROXY UDP4 203.0.113.9 192.0.2.1 4711 443\r\n",
            "PROXY  TCP4 203.0.113.9 192.0.2.1 4711 443\r\n",
            "proxy TCP4 203.0.113.9 192.0.2.1 4711 443\r\n",
            long.as_str(),
        ];
        let binary = [
            v2(0x22, 0x11, &[0; 12]),
            v2(0x11, 0x11, &[0; 12]),
            v2(0x21, 0x11, &[0; 9]),
            v2(0x21, 0x21, &[0; 12]),
            v2(0x21, 0x41, &[0; 12]),
            v2(0x21, 0x11, &[0; 2049]),
        ];
        let lines = lines.iter().map(|line| line.as_bytes().to_vec());
        for input in lines.chain(binary) {
            assert_eq!(read(&input), Err(Malformed), "{}", input.escape_ascii());
        }
    }
}
