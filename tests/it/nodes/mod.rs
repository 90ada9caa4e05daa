//! Several nodes on one Redis behave like one server. These scenarios are skipped where there is no redis-server.
//!
//! | file | shows |
//! |---|---|
//! | `clocks` | the clock of Redis is set; ids, messages and members outlast it |
//! | `data_loss` | Redis loses keys, files and connections at random; no offset is reused and no gap is silent |
//! | `echo` | a message is not delivered to its publisher, whichever node delivers it |
//! | `kills` | Redis and nodes are killed and stopped; acknowledged messages survive once |
//! | `numbering` | when numbering restarts and when it continues, after each kind of data loss |
//! | `presence` | members of all nodes are counted and listed |
//! | `presence_users` | lists of members name the users of clients on other nodes |
//! | `reconnects` | readers that reconnect to other nodes get everything once |
//! | `redis_addresses` | users, passwords and databases in the address; a database separates deployments |
//! | `redis_cluster` | the same with a Redis Cluster, and with one of its servers down |
//! | `redis_faults` | Redis refuses: full, a replica, another password, down |
//! | `redis_transports` | Redis over TLS and over a Unix socket |
//! | `removed_messages` | deleted messages, and those whose ttl has ended, are gone on all nodes |
//! | `room_rules` | rules for rooms by name: history of each room, also none |
//! | `sharded_relay` | a server of a cluster relays the rooms that it has; slots move, servers fail, other nodes cannot |
//! | `shared_rooms` | order, history, deduplication and administration over all nodes |
//! | `webhooks` | one node reports the state of all, and another takes over |

mod clocks;
mod data_loss;
mod echo;
mod kills;
mod numbering;
mod presence;
mod presence_users;
mod reconnects;
mod redis_addresses;
mod redis_cluster;
mod redis_faults;
mod redis_transports;
mod removed_messages;
mod room_rules;
mod sharded_relay;
mod shared_rooms;
mod webhooks;
