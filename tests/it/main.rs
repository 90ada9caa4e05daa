//! Scenarios against the real program: one file a behaviour, in the product's words.

mod broadcast;
mod closing;
mod crash;
mod handshake;
mod head;
mod hostile;
mod http;
mod limits;
mod liveness;
mod load;
mod messages;
mod order;
mod presence;
mod protocol;
mod resume;
mod rooms;
mod sessions;
mod settings;
mod shutdown;
mod slow;
mod smuggling;
mod storage;
mod storage_faults;
mod support;
mod tokens;
