//! An offer of permessage-deflate is answered with parameters that a naive reading of RFC 7692
//! allows, declined, or refused as malformed.
#![no_main]

use libfuzzer_sys::fuzz_target;
use roomcast_protocol::websocket::deflate::{Offer, Terms, WindowBits, negotiate};

fuzz_target!(|input: &[u8]| {
    let Some((&options, value)) = input.split_first() else {
        return;
    };
    let Ok(value) = std::str::from_utf8(value) else {
        return;
    };
    let _ = Offer::default().check([value]);
    let terms = Terms {
        server_window: WindowBits::new(9 + options % 7).unwrap(),
        client_window: WindowBits::new(9 + options / 7 % 7).unwrap(),
        context_takeover: options >= 128,
    };
    let answered = negotiate([value], &terms);
    assert_eq!(answered, negotiate([value, ""], &terms));
    let model = acceptable(value, &terms);
    match answered {
        // The model splits at every comma and semicolon, also in quotes, so it says nothing about a
        // value with quotes.
        _ if value.contains('"') => {}
        Ok(Some(agreement)) => assert_eq!(agreement.header(), model.expect("an acceptable offer")),
        Ok(None) => assert_eq!(model, None),
        Err(_) => {}
    }
    if let Ok(Some(agreement)) = answered {
        let window = agreement.window.unwrap();
        assert!(window <= terms.server_window);
        assert!(terms.context_takeover || !(agreement.keeps_context || agreement.peer_keeps_context));
    }
});

/// Returns the answer to the first acceptable offer.
fn acceptable(value: &str, terms: &Terms) -> Option<String> {
    value.split(',').find_map(|offer| {
        let mut parts = offer.split(';').map(|part| part.trim_matches([' ', '\t']));
        if parts.next() != Some("permessage-deflate") {
            return None;
        }
        let parts: Vec<(&str, Option<&str>)> = parts
            .map(|part| match part.split_once('=') {
                Some((name, value)) => {
                    let blanks = [' ', '\t'];
                    (name.trim_end_matches(blanks), Some(value.trim_start_matches(blanks)))
                }
                None => (part, None),
            })
            .collect();
        let of = |name: &str| parts.iter().filter(|(known, _)| *known == name).count();
        let bits = |value: Option<&str>| {
            let all = ["8", "9", "10", "11", "12", "13", "14", "15"];
            let index = all.iter().position(|known| Some(*known) == value)?;
            Some(index as u8 + 8)
        };
        let mut flags = [!terms.context_takeover; 2];
        let (mut server, mut client) = (None, None);
        for (name, value) in &parts {
            match (*name, value) {
                ("server_no_context_takeover", None) => flags[0] = true,
                ("client_no_context_takeover", None) => flags[1] = true,
                ("server_max_window_bits", value) => server = Some(bits(*value)?),
                ("client_max_window_bits", None) => client = Some(None),
                ("client_max_window_bits", value) => client = Some(Some(bits(*value)?)),
                _ => return None,
            }
            if of(name) > 1 {
                return None;
            }
        }
        if server == Some(8) {
            return None;
        }
        let most = terms.client_window.get();
        let client = match client {
            None if most < 15 => return None,
            None => None,
            Some(None) => (most < 15).then_some(most),
            Some(Some(bits)) => Some(bits.min(most)),
        };
        let window = server.unwrap_or(15).min(terms.server_window.get());
        let mut answer = "permessage-deflate".to_owned();
        for (flag, name) in flags.iter().zip(["server", "client"]) {
            if *flag {
                answer.push_str(&format!("; {name}_no_context_takeover"));
            }
        }
        if server.is_some() || window < 15 {
            answer.push_str(&format!("; server_max_window_bits={window}"));
        }
        if let Some(bits) = client {
            answer.push_str(&format!("; client_max_window_bits={bits}"));
        }
        Some(answer)
    })
}
