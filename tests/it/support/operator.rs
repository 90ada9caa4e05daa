//! A server that everyone may use, and its operator.

use super::token::admin_bearer;
use super::{Response, TempDir, TestServer};

/// Flags with which everyone may read and publish, and only an operator needs a token.
const OPEN: [&str; 2] = ["--anonymous", "both"];

impl TestServer {
    /// Starts a server that everyone may use and that has an operator.
    pub fn with_operator(args: &[&str]) -> Self {
        Self::with_tokens(&[&OPEN, args].concat())
    }

    /// Sends a `DELETE` of the operator.
    pub fn delete(&self, target: &str) -> Response {
        self.raw().request("DELETE", target, &[&admin_bearer()])
    }
}

impl TempDir {
    /// Starts a server that everyone may use, that has an operator, and that keeps its history in `history.db`.
    pub fn serve_with_operator(&self, args: &[&str]) -> TestServer {
        let database = self.arg("history.db");
        TestServer::with_operator(&[&["--db", &database], args].concat())
    }
}
