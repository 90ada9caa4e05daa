//! Scenarios against the real program: one file a behaviour, in the product's words.

mod broadcast;
mod support;
