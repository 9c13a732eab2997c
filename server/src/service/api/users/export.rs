//! Exports all that the store has of a user, a page at a time.

use std::time::{Duration, Instant};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::erasure::{is_event_of, without_events};
use super::place::Progress;
use crate::auth::Permission;
use crate::service::authorization::Allowed;
use crate::service::chat::Chat;
use crate::service::fault::ServiceError;
use crate::service::rules::content;
use crate::service::rules::event::Command;
use crate::store::UserRecord;

/// `GET /api/v1/users/{id}/export`
#[derive(Debug)]
pub(crate) struct ExportUser {
    pub(crate) user: String,
    pub(crate) query: ExportQuery,
}

impl Command for ExportUser {
    const PERMISSION: Option<Permission> = Some(Permission::ApiUsers);
}

/// The query of an export.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "ExportUser")]
pub(crate) struct ExportQuery {
    /// The `cursor` of the previous page. Without it, the first page.
    pub(crate) cursor: Option<String>,
}

/// A page of the data of a user.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct UserExport {
    /// The records. A page may be empty although others follow.
    records: Vec<ExportedRecord>,
    /// Where the next page begins; left out at the end of the data.
    #[serde(skip_serializing_if = "Option::is_none")]
    cursor: Option<String>,
}

/// One stored record.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct ExportedRecord {
    /// What the record is, such as `message`.
    kind: &'static str,
    /// The stored fields.
    #[schemars(with = "serde_json::Map<String, serde_json::Value>")]
    data: Box<RawValue>,
    /// JSON that is stored with the record, as it was sent or published.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<serde_json::Value>")]
    body: Option<Box<RawValue>>,
}

/// Returns a page of the data of a user.
pub(crate) async fn export_user(
    chat: &Chat,
    allowed: Allowed<ExportUser>,
) -> Result<UserExport, ServiceError> {
    let (by, ExportUser { user, query }) = allowed.into_parts();
    content::check_user_id("id", &user)?;
    let begin = Instant::now();
    let mut progress = Progress::of(query.cursor.as_deref())?;
    let mut records = Vec::new();
    if query.cursor.is_none() {
        tracing::info!(by = by.subject, user, "exporting the data of a user");
    }
    let mut bytes = 0;
    loop {
        let page = chat.store().user_data(&user, &progress.place, PAGE_BYTES);
        let page = page.await?;
        for UserRecord {
            kind, data, body, ..
        } in page.records
        {
            let body = shown(kind, &user, body);
            bytes += data.get().len() + body.as_ref().map_or(0, |body| body.get().len());
            records.push(ExportedRecord { kind, data, body });
        }
        let Some(next) = page.next else {
            return Ok(UserExport {
                records,
                cursor: None,
            });
        };
        progress.place = next;
        if bytes >= PAGE_BYTES || begin.elapsed() >= BUDGET {
            return Ok(UserExport {
                records,
                cursor: Some(progress.cursor()),
            });
        }
    }
}

/// Returns the part of a stored body that is the user's. A webhook delivery also has events of
/// others, and a stored response is for the caller that got it.
fn shown(kind: &str, user: &str, body: Option<Box<RawValue>>) -> Option<Box<RawValue>> {
    match kind {
        "delivery" => {
            let is_own = is_event_of(user);
            let body = without_events(body?.get(), |event| !is_own(event))?;
            RawValue::from_string(body).ok()
        }
        "response" => None,
        _ => body,
    }
}

/// The size of the records of a page, which one record may exceed.
const PAGE_BYTES: usize = 1 << 20;
/// The time after which a page ends, well before the timeout of a request.
const BUDGET: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_of_others_are_not_exported() {
        let events = r#"{"id":"1","node":"n","events":[{"event":"message","userId":"ann","to":"bob"},{"event":"message","userId":"bob","content":"to ann"}]}"#;
        let body = || Some(RawValue::from_string(events.to_owned()).unwrap());
        let shown = |kind: &str, user: &str| shown(kind, user, body()).map(|body| body.to_string());
        let own = shown("delivery", "ann").unwrap();
        assert!(
            own.contains("\"to\":\"bob\"") && !own.contains("to ann"),
            "{own}"
        );
        assert_eq!(shown("delivery", "carl"), None);
        assert_eq!(shown("response", "ann"), None);
        assert_eq!(shown("trade", "ann").as_deref(), Some(events));
    }
}
