//! Commands about what services publish for the market.

pub(crate) mod portfolio;
pub(crate) mod prices;
pub(crate) mod signals;
pub(crate) mod trades;
pub(crate) mod withdrawals;
