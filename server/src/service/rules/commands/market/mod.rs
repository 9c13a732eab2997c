//! Commands about market data: following, publishing, reading and withdrawing it,
//! and pages of lists.

pub(crate) mod corrections;
pub(crate) mod pages;
pub(crate) mod portfolio;
pub(crate) mod prices;
pub(crate) mod signals;
pub(crate) mod trades;
pub(crate) mod withdrawals;
