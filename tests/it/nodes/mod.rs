//! Several nodes on one Redis behave like one server.

mod data_loss;
mod kills;
mod numbering;
mod presence;
mod presence_users;
mod reconnects;
mod redis_cluster;
mod redis_faults;
mod redis_transports;
mod shared_rooms;
