//! Limits of clients: the machine's connections, the rate of each connection, and the use by each address.

mod address;
mod addresses;
mod bucket;
mod ceiling;
mod permit;
mod rate;

pub(crate) use address::Address;
pub(crate) use addresses::{AddressLimitError, AddressPermit, Addresses};
pub(crate) use ceiling::{Ceiling, raise_and_measure, raise_descriptor_limit};
pub(crate) use permit::{Permit, Permits};
pub(crate) use rate::{Exceeded, RateMeter};
