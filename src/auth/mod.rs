//! Who may do what. So far: which web origins may use the server.

mod origin;

pub use origin::AllowedOrigins;
