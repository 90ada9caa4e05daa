//! One client's conversation, over WebSocket or Server-Sent Events, and how it resumes.

pub mod resume;
pub mod sse;
pub mod websocket;
