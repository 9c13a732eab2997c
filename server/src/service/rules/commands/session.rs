//! What clients ask for about their own connection.

use crate::auth::RefreshOffer;
use crate::service::rules::event::events;

events! {
    REFRESH: RefreshOffer = "auth:refresh", Nothing, Requests, Anyone, object,
        "swaps the credentials of the connection, or prolongs its session";
}
