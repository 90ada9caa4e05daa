//! Several nodes that share a Redis are to their clients as one server is.

mod cluster;
mod faults;
mod losses;
mod moving;
mod numbering;
mod presence;
mod presence_users;
mod sharing;
mod storm;
mod ways;
