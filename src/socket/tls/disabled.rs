//! TLS in a build without the feature `tls`: a type without values in place of acceptor, connector and connection.

use std::io::{self, IoSlice};
use std::os::fd::BorrowedFd;
use std::path::Path;
use std::time::Instant;

use rustix::io::Errno;

use super::TlsError;
use crate::config::TlsFiles;
use crate::socket::nonblocking::Offered;

/// Has no values, so none of its methods can be called except [`load`](Self::load) and
/// [`new`](Self::new), which fail.
#[derive(Clone, Debug)]
pub(crate) enum NoTls {}

impl NoTls {
    pub(crate) fn load(files: &TlsFiles) -> Result<Self, String> {
        Err(format!(
            "--tls-cert {:?}: this wscast was built without TLS; build it with --features tls",
            files.cert
        ))
    }

    pub(crate) fn new(_: Option<&Path>) -> Result<Self, String> {
        Err("this wscast was built without TLS; build it with --features tls".to_owned())
    }

    pub(crate) fn connect(
        _: BorrowedFd<'_>,
        connector: &Self,
        _: &str,
        _: Instant,
    ) -> Result<Box<Self>, TlsError> {
        match *connector {}
    }

    pub(crate) fn reload(&self) -> Result<String, String> {
        match *self {}
    }

    pub(crate) fn accept(
        _: BorrowedFd<'_>,
        acceptor: &Self,
        _: Instant,
    ) -> Result<Box<Self>, TlsError> {
        match *acceptor {}
    }

    pub(crate) fn read(&self, _: BorrowedFd<'_>, _: &mut [u8]) -> io::Result<usize> {
        match *self {}
    }

    pub(crate) fn offer(
        &self,
        _: BorrowedFd<'_>,
        _: &[IoSlice<'_>],
        _: usize,
    ) -> Result<Offered, Errno> {
        match *self {}
    }

    pub(crate) fn close_notify(&self, _: BorrowedFd<'_>) {
        match *self {}
    }
}
