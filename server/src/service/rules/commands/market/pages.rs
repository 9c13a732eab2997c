//! Query parameters of paged lists.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::service::rules::bounds::RevisionCursor;
use crate::service::rules::commands::form::whole_in_query;

/// The requested page of a list.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct PageRequest {
    /// The `cursor` of the previous page. Default: the first page.
    #[schemars(with = "Option<RevisionCursor>")]
    pub(crate) cursor: Option<String>,
    /// 1 to 200. Default 50.
    #[schemars(range(min = 1, max = 200))]
    #[serde(default, deserialize_with = "whole_in_query")]
    pub(crate) limit: Option<usize>,
}

/// The requested page of a list whose items have revisions.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct UpdatesRequest {
    /// The `cursor` of the previous page. Default: the first page.
    #[schemars(with = "Option<RevisionCursor>")]
    pub(crate) cursor: Option<String>,
    /// 1 to 200. Default 50.
    #[schemars(range(min = 1, max = 200))]
    #[serde(default, deserialize_with = "whole_in_query")]
    pub(crate) limit: Option<usize>,
    /// Only items with a larger `revision`; the caller has all others. Send it with each page.
    #[serde(default, deserialize_with = "whole_in_query")]
    pub(crate) since_revision: Option<u64>,
}
