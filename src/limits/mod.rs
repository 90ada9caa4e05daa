//! Limits on what clients may use: connections of the machine, rates of a connection, and both of an address.

mod address;
mod addresses;
mod bucket;
mod ceiling;
mod permit;
mod rate;

pub(crate) use address::Address;
pub(crate) use addresses::{AddressLimitError, AddressPermit, Addresses};
pub(crate) use ceiling::{Ceiling, raise_and_measure};
pub(crate) use permit::{Permit, Permits};
pub(crate) use rate::{Exceeded, RateMeter};
