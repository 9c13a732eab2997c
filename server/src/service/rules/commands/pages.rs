//! What lists are asked for page by page.

use schemars::JsonSchema;
use serde::Deserialize;

use super::form::whole_in_query;
use crate::service::rules::bounds::RevisionCursor;

/// Which page of a list is read.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct AskedPage {
    /// The `cursor` of the page before; without it, the first page.
    #[schemars(with = "Option<RevisionCursor>")]
    pub(crate) cursor: Option<String>,
    /// 1 to 200. Default 50.
    #[schemars(range(min = 1, max = 200))]
    #[serde(default, deserialize_with = "whole_in_query")]
    pub(crate) limit: Option<usize>,
}

/// Which page is read of a list whose items have revisions.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct AskedUpdates {
    /// The `cursor` of the page before; without it, the first page.
    #[schemars(with = "Option<RevisionCursor>")]
    pub(crate) cursor: Option<String>,
    /// 1 to 200. Default 50.
    #[schemars(range(min = 1, max = 200))]
    #[serde(default, deserialize_with = "whole_in_query")]
    pub(crate) limit: Option<usize>,
    /// Only items with a larger `revision`, of which the caller has all others. On each page.
    #[serde(default, deserialize_with = "whole_in_query")]
    pub(crate) since_revision: Option<u64>,
}
