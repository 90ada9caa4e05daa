//! What stands here when TLS is left out of the build.

use std::io::{self, IoSlice};
use std::os::fd::BorrowedFd;
use std::time::Instant;

use rustix::io::Errno;

use crate::config::TlsFiles;
use crate::socket::Offered;

use super::TlsError;

/// There is none.
#[derive(Debug)]
pub enum Acceptor {}

impl Acceptor {
    /// Fails, and says what to do.
    pub fn load(files: &TlsFiles) -> Result<Self, String> {
        Err(format!(
            "--tls-cert {:?}: this wscast was built without TLS; build it with --features tls",
            files.cert
        ))
    }

    /// Is never called.
    pub fn reload(&self) -> Result<String, String> {
        match *self {}
    }
}

/// There is none.
#[derive(Debug)]
pub enum Session {}

impl Session {
    /// Is never called.
    pub fn accept(
        _: BorrowedFd<'_>,
        acceptor: &Acceptor,
        _: Instant,
    ) -> Result<Box<Self>, TlsError> {
        match *acceptor {}
    }

    /// Is never called.
    pub fn read(&self, _: BorrowedFd<'_>, _: &mut [u8]) -> io::Result<usize> {
        match *self {}
    }

    /// Is never called.
    pub fn offer(&self, _: BorrowedFd<'_>, _: &[IoSlice<'_>], _: usize) -> Result<Offered, Errno> {
        match *self {}
    }

    /// Is never called.
    pub fn close_notify(&self, _: BorrowedFd<'_>) {
        match *self {}
    }
}
