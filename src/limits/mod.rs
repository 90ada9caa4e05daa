//! Limits on what clients may use: connections of the machine, rates of a connection, and both of an address.

mod address;
mod addresses;
mod bucket;
mod ceiling;
mod permit;
mod rate;

pub use address::Address;
pub use addresses::{AddressLimitError, AddressPermit, Addresses};
pub use ceiling::{Ceiling, raise_and_measure};
pub use permit::{Permit, Permits};
pub use rate::{Exceeded, RateMeter};
