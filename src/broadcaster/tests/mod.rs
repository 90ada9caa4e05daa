//! The broadcaster's loop, driven in memory one batch of events at a time.
//!
//! A test chooses the time and the events that arrive together. Each client is a real outbox over a socket pair of
//! this process, so a test reads the same bytes that a client would receive.

mod closing;
mod echo;
mod event_loop;
mod fan_out;
mod hold;
mod membership;
mod presence;
mod queries;
mod remote_members;
mod restart;
mod support;
