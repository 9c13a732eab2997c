//! The cursor of an export or an erasure: how far it has come.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};

use crate::service::fault::ServiceError;
use crate::store::{Time, UserDataPlace};

/// How far an export or an erasure has come, and when it began.
#[derive(Clone, Debug)]
pub(super) struct Progress {
    pub(super) place: UserDataPlace,
    pub(super) began: Time,
}

impl Progress {
    /// Reads a cursor. Without one, the work begins now.
    pub(super) fn of(cursor: Option<&str>) -> Result<Self, ServiceError> {
        let Some(cursor) = cursor else {
            return Ok(Self {
                place: UserDataPlace::default(),
                began: Time::now(),
            });
        };
        Self::parse(cursor).ok_or_else(|| ServiceError::invalid("cursor", "is not a cursor"))
    }

    fn parse(cursor: &str) -> Option<Self> {
        let text = String::from_utf8(URL_SAFE_NO_PAD.decode(cursor).ok()?).ok()?;
        let mut parts = text.splitn(3, ' ');
        let (section, began, after) = (parts.next()?, parts.next()?, parts.next()?);
        let place = UserDataPlace {
            section: section.parse().ok()?,
            after: after.to_owned(),
        };
        let began = began.parse().ok()?;
        place.is_valid().then_some(Self { place, began })
    }

    pub(super) fn cursor(&self) -> String {
        let UserDataPlace { section, after } = &self.place;
        URL_SAFE_NO_PAD.encode(format!("{section} {} {after}", self.began))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cursor_is_read_as_it_was_written_and_others_are_refused() {
        let began: Time = "2025-01-31T12:00:00Z".parse().unwrap();
        for (section, after) in [
            (0, "ff 0"),
            (5, "0190b0e0-0000-7000-8000-000000000000"),
            (5, ""),
        ] {
            let after = after.to_owned();
            let place = UserDataPlace { section, after };
            let written = Progress { place, began }.cursor();
            let read = Progress::of(Some(&written)).unwrap();
            assert_eq!((read.cursor(), read.began), (written, began));
        }
        let encoded = |text: &str| URL_SAFE_NO_PAD.encode(text);
        for wrong in [
            "",
            "?",
            &encoded("0"),
            &encoded("x 2025-01-31T12:00:00Z "),
            &encoded("0 yesterday "),
            &encoded("5 2025-01-31T12:00:00Z '; DROP TABLE messages"),
            &encoded("99 2025-01-31T12:00:00Z "),
        ] {
            assert!(Progress::of(Some(wrong)).is_err(), "{wrong}");
        }
    }
}
